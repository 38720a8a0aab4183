import type { Task } from '@peftjs/core/model';
import type { ModelConfig } from './checkpoint.js';

/** A model whose steps are timed: what it is trained for, and its config.json. */
export interface TimedModel {
  readonly task: Task;
  readonly config: ModelConfig;
}

/** The timed models with random weights, by name. */
export const models = {
  minilm: encoder({ model_type: 'bert', num_hidden_layers: 6, hidden_size: 384, intermediate_size: 1536 }),
  'bert-base': encoder({ model_type: 'bert', num_hidden_layers: 12, hidden_size: 768, intermediate_size: 3072 }),
  'deberta-v3-base': encoder({
    model_type: 'deberta-v2',
    num_hidden_layers: 12,
    hidden_size: 768,
    intermediate_size: 3072,
    vocab_size: 128_100,
    type_vocab_size: 0,
    layer_norm_eps: 1e-7,
    relative_attention: true,
    position_buckets: 256,
    max_relative_positions: -1,
    norm_rel_ebd: 'layer_norm',
    share_att_key: true,
    pos_att_type: ['p2c', 'c2p'],
    position_biased_input: false,
    pooler_dropout: 0,
  }),
  'smollm2-135m': decoder({
    model_type: 'llama',
    architectures: ['LlamaForCausalLM'],
    num_hidden_layers: 30,
    hidden_size: 576,
    intermediate_size: 1536,
    num_attention_heads: 9,
    num_key_value_heads: 3,
    vocab_size: 49_152,
    max_position_embeddings: 8192,
    rms_norm_eps: 1e-5,
    rope_theta: 1e5,
  }),
  'qwen3-0.6b': decoder({
    model_type: 'qwen3',
    architectures: ['Qwen3ForCausalLM'],
    num_hidden_layers: 28,
    hidden_size: 1024,
    intermediate_size: 3072,
    num_attention_heads: 16,
    num_key_value_heads: 8,
    head_dim: 128,
    vocab_size: 151_936,
    max_position_embeddings: 40_960,
    rms_norm_eps: 1e-6,
    rope_theta: 1e6,
  }),
} as const satisfies Record<string, TimedModel>;

/** The name of a timed model with random weights. */
export type RandomModelName = keyof typeof models;

function encoder(config: ModelConfig) {
  const usual = { num_attention_heads: 12, vocab_size: 30_522, max_position_embeddings: 512 };
  const undropped = { hidden_dropout_prob: 0, attention_probs_dropout_prob: 0 };
  return { task: 'sequence-classification', config: { ...usual, ...undropped, ...config } } as const;
}

function decoder(config: ModelConfig) {
  return {
    task: 'causal-lm',
    config: { hidden_act: 'silu', tie_word_embeddings: true, torch_dtype: 'bfloat16', ...config },
  } as const;
}
