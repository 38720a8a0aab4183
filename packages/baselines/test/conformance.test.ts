import { head } from '@peftjs/baselines';
import { testMethod } from '@peftjs/core/testing';

testMethod(head, {
  configs: { default: {} },
  learningRate: 0.05,
  invalid: [{ options: { modulesToSave: 3 }, field: 'modulesToSave' }],
});
