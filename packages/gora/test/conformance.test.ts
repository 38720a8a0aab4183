import { testMethod } from '@peftjs/conformance';
import { gora } from '@peftjs/gora';

testMethod(gora, {
  configs: { 'ranks from gradients': { r: 2, loraplusLrRatio: 2 } },
  rewritten: ['loraplusLrRatio'],
  invalid: [
    { options: { r: 0 }, field: 'r' },
    { options: { loraAlpha: -1 }, field: 'loraAlpha' },
    { options: { gamma: 0 }, field: 'gamma' },
    { options: { minR: 3, maxR: 2 }, field: 'maxR' },
    { options: { loraplusLrRatio: 0 }, field: 'loraplusLrRatio' },
    { options: { budget: 0 }, field: 'budget' },
    { options: { initLoraWeights: true }, field: 'initLoraWeights' },
    { options: { rankPattern: { query: 2 } }, field: 'rankPattern' },
  ],
});
