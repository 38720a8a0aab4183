// More of conformance.test.ts: the released allocator, and other scores and factors.
import { adalora } from '@peftjs/adalora';
import { testMethod } from '@peftjs/conformance';

testMethod(adalora, {
  configs: {
    released: {
      initR: 4,
      targetR: 3,
      orthRegularizer: 'unsquared-mean',
      orthRegWeight: 0.1,
      allocator: 'released',
      deltaT: 2,
    },
    magnitude: { initR: 4, targetR: 3, importance: 'magnitude', orthRegWeight: 0, deltaT: 3 },
    'compacted doublets': { parametrization: 'lora', initR: 4, targetR: 2, compact: true },
  },
  learningRate: 0.03,
  rewritten: ['mask', 'importance', 'smoothedSensitivity', 'uncertainty'],
  invalid: [],
});
