import { testMethod } from '@peftjs/conformance';
import { lnTuning } from '@peftjs/ln-tuning';

testMethod(lnTuning, {
  configs: { default: {} },
  learningRate: 0.05,
  invalid: [{ options: { targetModules: 3 }, field: 'targetModules' }],
});
