import { resumedAroundResize, testMethod } from '@peftjs/conformance';
import { expect, it } from 'vitest';
import { prune } from './rank-method.js';

testMethod(prune, {
  configs: { default: {}, 'a budget': { r: 3, budget: 300 } },
  budgets: { default: [1, 2], 'a budget': [2] },
  learningRate: 0.02,
  invalid: [
    { options: { r: 0 }, field: 'r' },
    { options: { budget: -1 }, field: 'budget' },
  ],
});

it('resumes right before and after ranks are removed as if it had not stopped', async () => {
  const { whole, resumed } = await resumedAroundResize(prune({ r: 3, budget: 150, targetModules: ['query', 'in'] }));
  expect(resumed).toEqual([whole.values, whole.values]);
});
