import { gatedLoraFiles } from '@peftjs/core';
import type { L1raConfig } from './config.js';
import { scalingOf } from './layer.js';

/** Pruned, an L1RA is PEFT's LORA; to be trained further, it is L1RA, with its gates under the released code's name. */
export const l1raFiles = gatedLoraFiles<L1raConfig>({
  peftType: 'L1RA',
  suffix: '.lora_c',
  fields: {
    lora_dropout: 'loraDropout',
    l1ra_lambda: 'l1raLambda',
    eta_c: 'etaC',
    rank_update_ratio: 'rankUpdateRatio',
    prune_threshold: 'pruneThreshold',
    reassign: 'reassign',
    exclude_pruned: 'excludePruned',
    budget: 'budget',
  },
  ones: [],
  scaling: scalingOf,
});
