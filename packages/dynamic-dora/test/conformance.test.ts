import { testMethod } from '@peftjs/conformance';
import { dynamicDora } from '@peftjs/dynamic-dora';

testMethod(dynamicDora, {
  configs: { 'ranks that are pruned twice': { r: 3, endRatio: 0.75, rankUpdateRatio: 0.3, loraDropout: 0.1 } },
  budgets: { 'ranks that are pruned twice': [2] },
  rewritten: ['r', 'importance'],
  invalid: [
    { options: { r: 0 }, field: 'r' },
    { options: { r: 4, targetR: 5 }, field: 'targetR' },
    { options: { targetR: 2, budget: 500 }, field: 'budget' },
    { options: { budget: -1 }, field: 'budget' },
    { options: { loraAlpha: 0 }, field: 'loraAlpha' },
    { options: { demWeight: -1 }, field: 'demWeight' },
    { options: { beta: 1 }, field: 'beta' },
    { options: { startRatio: 0.6 }, field: 'endRatio' },
    { options: { rankUpdateRatio: 0 }, field: 'rankUpdateRatio' },
  ],
});
