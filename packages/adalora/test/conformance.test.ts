import { adalora } from '@peftjs/adalora';
import { testMethod } from '@peftjs/conformance';

testMethod(adalora, {
  configs: {
    default: { initR: 4, targetR: 3 },
    parameters: { initR: 4, targetR: 3, budgetUnit: 'parameters', tinit: 2, tfinal: 3, loraDropout: 0.2 },
    compacted: { initR: 4, targetR: 1, tfinal: 4, orthRegWeight: 0.1, loraDropout: 0.2, compact: true },
  },
  learningRate: 0.03,
  rewritten: ['mask', 'importance', 'smoothedSensitivity', 'uncertainty'],
  invalid: [
    { options: { initR: 0 }, field: 'initR' },
    { options: { initR: 4, targetR: 5 }, field: 'targetR' },
    { options: { beta1: 1 }, field: 'beta1' },
    { options: { orthRegWeight: -1 }, field: 'orthRegWeight' },
    { options: { importance: 'random' }, field: 'importance' },
    { options: { allocator: 'mine' }, field: 'allocator' },
    { options: { loraDropout: 1 }, field: 'loraDropout' },
    { options: { totalStep: 20, tinit: 12, tfinal: 8 }, field: 'tinit' },
    { options: { budget: 100 }, field: 'budget' },
    { options: { compact: 'yes' }, field: 'compact' },
    { options: { parametrization: 'lora', orthRegWeight: 0.1 }, field: 'orthRegWeight' },
    { options: { parametrization: 'lora', importance: 'magnitude' }, field: 'importance' },
  ],
});
