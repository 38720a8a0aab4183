import { testMethod } from '@peftjs/conformance';
import { bayesLora } from '@peftjs/bayes-lora';

testMethod(bayesLora, {
  // A larger alpha makes the initial, small B visible, a larger klScale the gradient of the divergence.
  configs: { 'ranks that go': { r: 4, loraAlpha: 32, klScale: 1e-3, logAlphaThreshold: 0 } },
  rewritten: ['r', 'loraAlpha', 'klScale', 'logAlphaThreshold', 'logSigma2'],
  invalid: [
    { options: { r: 0 }, field: 'r' },
    { options: { loraAlpha: -1 }, field: 'loraAlpha' },
    { options: { klScale: -1 }, field: 'klScale' },
    { options: { initLogSigma2: NaN }, field: 'initLogSigma2' },
    { options: { logAlphaThreshold: 'high' }, field: 'logAlphaThreshold' },
    { options: { pruneEvents: 1.5 }, field: 'pruneEvents' },
    { options: { budget: -1 }, field: 'budget' },
  ],
});
