import { testMethod } from '@peftjs/conformance';
import { elaLora } from '@peftjs/ela-lora';

testMethod(elaLora, {
  configs: { 'ranks that move': { r: 3, loraAlpha: 6, startRatio: 0.1, rankUpdateRatio: 0.25, loraDropout: 0.1 } },
  budgets: { 'ranks that move': [2] },
  rewritten: ['importance', 'smoothedSensitivity', 'uncertainty'],
  invalid: [
    { options: { r: 0 }, field: 'r' },
    { options: { loraAlpha: 0 }, field: 'loraAlpha' },
    { options: { movedRanks: 0 }, field: 'movedRanks' },
    { options: { candidateRanks: 0.5 }, field: 'candidateRanks' },
    { options: { startRatio: 1 }, field: 'startRatio' },
    { options: { rankUpdateRatio: 0 }, field: 'rankUpdateRatio' },
    { options: { beta1: 1 }, field: 'beta1' },
    { options: { budget: -1 }, field: 'budget' },
  ],
});
