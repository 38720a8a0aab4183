import { fileFormat } from '@peftjs/core/method';
import type { LohaConfig } from './config.js';

/** PEFT's LOHA. Ranks come from the tensors' shapes. */
export const lohaFiles = fileFormat<LohaConfig>({
  peftType: 'LOHA',
  tensors: {
    hadaW1A: ['.hada_w1_a', 'out', 'r'],
    hadaW1B: ['.hada_w1_b', 'r', 'in'],
    hadaW2A: ['.hada_w2_a', 'out', 'r'],
    hadaW2B: ['.hada_w2_b', 'r', 'in'],
  },
  ranks: 'tensors',
  fields: { rank_dropout: 'rankDropout', module_dropout: 'moduleDropout', init_weights: 'initWeights' },
  others: {
    exclude_modules: null,
    use_effective_conv2d: false, // applies to convolutions only
  },
});
