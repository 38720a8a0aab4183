import { testMethod } from '@peftjs/conformance';
import { l1ra } from '@peftjs/l1ra';

testMethod(l1ra, {
  configs: {
    'ranks that stay': { r: 3, l1raLambda: 1.1, rankUpdateRatio: 1 },
    'ranks that move': { r: 4, loraAlpha: 16, l1raLambda: 0.7, etaC: 0.05, rankUpdateRatio: 0.25, loraDropout: 0.1 },
  },
  learningRate: 0.03,
  budgets: { 'ranks that stay': [] },
  invalid: [
    { options: { r: 0 }, field: 'r' },
    { options: { etaC: 0 }, field: 'etaC' },
    { options: { l1raLambda: -1 }, field: 'l1raLambda' },
    { options: { rankUpdateRatio: 0 }, field: 'rankUpdateRatio' },
    { options: { pruneThreshold: 2 }, field: 'pruneThreshold' },
    { options: { budget: -1 }, field: 'budget' },
  ],
});
