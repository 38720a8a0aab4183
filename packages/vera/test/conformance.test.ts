import { testMethod } from '@peftjs/conformance';
import { vera } from '@peftjs/vera';

// #region conformance
testMethod(vera, {
  configs: {
    'rank 6': { r: 6 },
    'a seed in the place of the shared matrices': {
      r: 3,
      projectionPrngKey: 5,
      saveProjection: false,
      veraDropout: 0.1,
    },
  },
  budgets: { 'rank 6': [1, 2], 'a seed in the place of the shared matrices': [] },
  learningRate: 0.1,
  invalid: [
    { options: { r: 0 }, field: 'r' },
    { options: { projectionPrngKey: -1 }, field: 'projectionPrngKey' },
    { options: { saveProjection: 'yes' }, field: 'saveProjection' },
    { options: { veraDropout: 1 }, field: 'veraDropout' },
    { options: { dInitial: NaN }, field: 'dInitial' },
  ],
});
// #endregion conformance
