// More of conformance.test.ts: budgets, and the released code's steps.
import { testMethod } from '@peftjs/conformance';
import { sora } from '@peftjs/sora';

testMethod(sora, {
  configs: {
    budgeted: { r: 4, budget: 400, variant: 'paper' },
    released: { r: 4, thresholdMode: 'constant', proximal: 'reference', sparseLambda: 2e-3, l1Weight: 0.1 },
    'compacted to a budget': { r: 4, budget: 400, compactEvery: 1 },
  },
  rewritten: ['r', 'mask'],
  invalid: [],
});
