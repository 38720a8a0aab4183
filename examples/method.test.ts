import { testMethod } from '@peftjs/conformance';
import { scale } from './method.js';

testMethod(scale, {
  configs: { default: {} },
  invalid: [{ options: { targetModules: 3 }, field: 'targetModules' }],
});
