import { testMethod } from '@peftjs/core/testing';
import { lora } from '@peftjs/lora';

testMethod(lora, {
  configs: {
    default: {},
    uneven: { r: 3, rankPattern: { value: 1 }, alphaPattern: { 'ffn.in': 4 } },
    rslora: { r: 4, useRslora: true },
  },
  invalid: [
    { options: { r: 0 }, field: 'r' },
    { options: { loraAlpha: 'much' }, field: 'loraAlpha' },
    { options: { initLoraWeights: 'pissa' }, field: 'initLoraWeights' },
    { options: { rankPattern: { value: -1 } }, field: 'rankPattern.value' },
  ],
});
