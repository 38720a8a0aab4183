import { fileFormat } from '@peftjs/core/method';
import type { LokrConfig } from './config.js';

/**
 * PEFT's LOKR. Ranks come from the configuration, because a whole factor does not show its rank. The resulting shapes
 * are compared with the file's when the layers are made.
 */
export const lokrFiles = fileFormat<LokrConfig>({
  peftType: 'LOKR',
  tensors: {
    lokrW1: ['.lokr_w1', 'l', 'm'],
    lokrW1A: ['.lokr_w1_a', 'l', 'r'],
    lokrW1B: ['.lokr_w1_b', 'r', 'm'],
    lokrW2: ['.lokr_w2', 'k', 'n'],
    lokrW2A: ['.lokr_w2_a', 'k', 'r'],
    lokrW2B: ['.lokr_w2_b', 'r', 'n'],
  },
  partial: true,
  ranks: 'fields',
  fields: {
    decompose_both: 'decomposeBoth',
    decompose_factor: 'decomposeFactor',
    rank_dropout: 'rankDropout',
    rank_dropout_scale: 'rankDropoutScale',
    module_dropout: 'moduleDropout',
    init_weights: 'initWeights',
  },
  others: {
    exclude_modules: null,
    use_effective_conv2d: false, // applies to convolutions only
  },
});
