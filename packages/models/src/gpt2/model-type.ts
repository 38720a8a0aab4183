import type { Task } from '@peftjs/core';
import type { Architecture } from '../architecture.js';
import { boolean, positiveInteger, positiveNumber, refuseUnless, type ConfigFile } from '../transformers/config.js';
import type { ModelType } from '../transformers/model-type.js';
import { gpt2 } from './architecture.js';

/** GPT-2 as transformers saves it: `GPT2Model`, `GPT2LMHeadModel`, `GPT2ForSequenceClassification` and others. */
export const gpt2Type: ModelType = {
  name: 'gpt2',
  savedBy: 'GPT2Model, GPT2LMHeadModel or GPT2ForSequenceClassification',
  prefix: 'transformer.',
  architecture,
};

/** What a config.json leaves out is as in gpt2, as transformers has it. */
function architecture(config: ConfigFile, task: Task): Architecture {
  refuseUnless(config, 'activation_function', 'gelu_new');
  refuseUnless(config, 'scale_attn_weights', true);
  refuseUnless(config, 'scale_attn_by_inverse_layer_idx', false);
  refuseUnless(config, 'add_cross_attention', false);
  const nEmbd = positiveInteger(config, 'n_embd', 768);
  return gpt2(
    {
      vocabSize: positiveInteger(config, 'vocab_size', 50_257),
      nPositions: positiveInteger(config, 'n_positions', 1024),
      nEmbd,
      nLayer: positiveInteger(config, 'n_layer', 12, { most: 1000 }),
      nHead: positiveInteger(config, 'n_head', 12, { divides: nEmbd }),
      nInner: positiveInteger(config, 'n_inner', 4 * nEmbd),
      layerNormEpsilon: positiveNumber(config, 'layer_norm_epsilon', 1e-5),
      tieWordEmbeddings: boolean(config, 'tie_word_embeddings', true),
    },
    task,
  );
}
