import { testMethod } from '@peftjs/core/testing';
import { sora } from '@peftjs/sora';

testMethod(sora, {
  configs: {
    default: {},
    budgeted: { r: 4, budget: 400 },
    released: { r: 4, thresholdMode: 'constant', proximal: 'reference', sparseLambda: 2e-3, l1Weight: 0.1 },
    uneven: { r: 3, rankPattern: { value: 2 }, alphaPattern: { 'ffn.in': 4 }, gateInit: 'ones' },
  },
  invalid: [
    { options: { r: 0 }, field: 'r' },
    { options: { sparseLambda: -1 }, field: 'sparseLambda' },
    { options: { thresholdMode: 'adaptive' }, field: 'thresholdMode' },
    { options: { budget: 0 }, field: 'budget' },
  ],
});
