import { testMethod } from '@peftjs/conformance';
import { lokr } from '@peftjs/lokr';

testMethod(lokr, {
  configs: {
    'one factor decomposed, with dropout': {
      r: 1,
      alpha: 2,
      decomposeFactor: 2,
      targetModules: ['query', 'ffn.in'],
      rankDropout: 0.1,
      rankDropoutScale: true,
      moduleDropout: 0.1,
    },
  },
  budgets: { 'one factor decomposed, with dropout': [1] },
  learningRate: 0.05,
  invalid: [
    { options: { r: 0 }, field: 'r' },
    { options: { alpha: NaN }, field: 'alpha' },
    { options: { rankPattern: { query: 0 } }, field: 'rankPattern.query' },
    { options: { decomposeBoth: 'yes' }, field: 'decomposeBoth' },
    { options: { decomposeFactor: 1.5 }, field: 'decomposeFactor' },
    { options: { rankDropout: 1 }, field: 'rankDropout' },
    { options: { moduleDropout: 1 }, field: 'moduleDropout' },
    { options: { initWeights: 'yes' }, field: 'initWeights' },
  ],
});
