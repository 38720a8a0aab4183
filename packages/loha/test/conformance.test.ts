import { testMethod } from '@peftjs/conformance';
import { loha } from '@peftjs/loha';

testMethod(loha, {
  configs: {
    'uneven ranks, with dropout': {
      r: 2,
      rankPattern: { query: 1 },
      alphaPattern: { 'ffn.in': 3 },
      targetModules: ['query', 'ffn.in'],
      rankDropout: 0.1,
      moduleDropout: 0.1,
    },
  },
  budgets: { 'uneven ranks, with dropout': [2] },
  learningRate: 0.05,
  invalid: [
    { options: { r: 0 }, field: 'r' },
    { options: { alpha: NaN }, field: 'alpha' },
    { options: { rankPattern: { query: 0 } }, field: 'rankPattern.query' },
    { options: { rankDropout: 1 }, field: 'rankDropout' },
    { options: { moduleDropout: 1 }, field: 'moduleDropout' },
    { options: { initWeights: 'yes' }, field: 'initWeights' },
  ],
});
