import { testMethod } from '@peftjs/core/testing';
import { lora } from '../src/index.js';

testMethod(lora, {
  configs: {
    'of rank 4': { r: 4 },
    'of uneven ranks': { r: 2, rankPattern: { 'ffn\\.in': 3, 'encoder.layer.0.attention.query': 1 } },
    'rank-stabilised': { r: 4, useRslora: true },
    'with random B': { r: 4, initLoraWeights: false },
  },
  randomAtInit: ['with random B'],
  invalid: [
    { options: { r: 0 }, field: 'r' },
    { options: { r: 2.5 }, field: 'r' },
    { options: { loraAlpha: 'high' }, field: 'loraAlpha' },
    { options: { initLoraWeights: 'zeros' }, field: 'initLoraWeights' },
  ],
});
