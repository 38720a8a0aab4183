import { testMethod } from '@peftjs/core/testing';
import { adalora } from '@peftjs/adalora';

testMethod(adalora, {
  configs: {
    default: { initR: 4, targetR: 3 },
    released: { initR: 4, targetR: 3, orthRegularizer: 'unsquared-mean', orthRegWeight: 0.1, deltaT: 2 },
    magnitude: { initR: 4, targetR: 3, importance: 'magnitude', orthRegWeight: 0, deltaT: 3 },
    sensitivity: { initR: 4, targetR: 3, importance: 'sensitivity', budgetUnit: 'parameters' },
  },
  learningRate: 0.03,
  invalid: [
    { options: { initR: 0 }, field: 'initR' },
    { options: { initR: 4, targetR: 5 }, field: 'targetR' },
    { options: { beta1: 1 }, field: 'beta1' },
    { options: { orthRegWeight: -1 }, field: 'orthRegWeight' },
    { options: { importance: 'random' }, field: 'importance' },
    { options: { budget: 100 }, field: 'budget' },
  ],
});
