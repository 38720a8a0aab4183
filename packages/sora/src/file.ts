import { gatedLoraFiles } from '@peftjs/core';
import type { SoraConfig } from './config.js';
import { alphaOf, gateCount } from './layer.js';

/** Pruned, a SoRA is PEFT's LORA; to be trained further, it is SORA, with its gates. */
export const soraFiles = gatedLoraFiles<SoraConfig>({
  peftType: 'SORA',
  suffix: '.gate',
  fields: {
    sparse_lambda: 'sparseLambda',
    threshold_mode: 'thresholdMode',
    proximal: 'proximal',
    gate_init: 'gateInit',
    lora_dropout: 'loraDropout',
    l1_weight: 'l1Weight',
    budget: 'budget',
    selection: 'selection',
    compact_every: 'compactEvery',
  },
  ones: ['mask'],
  scaling: (site, config) => alphaOf(site, config) / gateCount(site, config),
});
