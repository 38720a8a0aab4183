/** What the architectures of llama.cpp are called in transformers, by `general.architecture`. */

/** The settings and modules of an architecture. */
export interface Family {
  /** The `model_type` of transformers. Default: the name of the architecture. */
  readonly modelType?: string;
  /** The settings of config.json by their keys in the metadata, below the name of the architecture. */
  readonly settings: Readonly<Record<string, string>>;
  /**
   * Returns the settings of config.json that depend on others.
   * @param config The settings read so far.
   * @param read Returns a value of the metadata, below the name of the architecture.
   */
  readonly derived?: (config: Config, read: (key: string) => unknown) => Config;
  /** The modules outside the layers: their paths in transformers, by their names in llama.cpp. */
  readonly modules: Readonly<Record<string, string>>;
  /** The part of a weight's path in transformers before the number of its layer. */
  readonly layers: string;
  /** The modules of a layer: their paths in transformers below the layer's, by their names in llama.cpp. */
  readonly layerModules: Readonly<Record<string, string>>;
  /** Whether queries and keys are rotated, so that there are settings of RoPE, and an output layer that may be tied. */
  readonly isRotary: boolean;
  /** Whether settings say which modules have biases. Default false. */
  readonly namesBiases?: boolean;
  /** Whether llama.cpp rotates neighbouring rows of a head, transformers the halves. Default false. */
  readonly rotatesNeighbours?: boolean;
  /** Whether llama.cpp multiplies by the gains of norms, transformers by 1 + gain. Default false. */
  readonly addsOne?: boolean;
  /** The modules of a layer whose weights transformers holds as [in, out]. Default: none. */
  readonly transposes?: readonly string[];
}

/** Settings of config.json. */
export type Config = Readonly<Record<string, unknown>>;

/** Qwen 2 and 3: Llama's modules in Llama's order. */
const qwen: Family = {
  settings: {
    block_count: 'num_hidden_layers',
    context_length: 'max_position_embeddings',
    embedding_length: 'hidden_size',
    feed_forward_length: 'intermediate_size',
    'attention.head_count': 'num_attention_heads',
    'attention.head_count_kv': 'num_key_value_heads',
    'attention.key_length': 'head_dim',
    'attention.layer_norm_rms_epsilon': 'rms_norm_eps',
    'rope.freq_base': 'rope_theta',
  },
  modules: { token_embd: 'model.embed_tokens', output_norm: 'model.norm', output: 'lm_head' },
  layers: 'model.layers.',
  layerModules: {
    attn_norm: 'input_layernorm',
    attn_q: 'self_attn.q_proj',
    attn_k: 'self_attn.k_proj',
    attn_v: 'self_attn.v_proj',
    attn_output: 'self_attn.o_proj',
    attn_q_norm: 'self_attn.q_norm',
    attn_k_norm: 'self_attn.k_norm',
    ffn_norm: 'post_attention_layernorm',
    ffn_gate: 'mlp.gate_proj',
    ffn_up: 'mlp.up_proj',
    ffn_down: 'mlp.down_proj',
    post_attention_norm: 'post_attention_layernorm',
    post_ffw_norm: 'post_feedforward_layernorm',
  },
  isRotary: true,
};

/** OLMo 2: norms only after both parts of a layer. */
const { attn_norm: _, ffn_norm: __, ...normedAfter } = qwen.layerModules;

const llama: Family = { ...qwen, namesBiases: true, rotatesNeighbours: true };

const gemma: Family = { ...qwen, addsOne: true };

/** Gemma 2 and 3: Gemma with norms around both parts of a layer, and windows. */
const gemma2: Family = {
  ...gemma,
  settings: {
    ...gemma.settings,
    attn_logit_softcapping: 'attn_logit_softcapping',
    final_logit_softcapping: 'final_logit_softcapping',
    'attention.sliding_window': 'sliding_window',
  },
  derived: (config) => ({ query_pre_attn_scalar: queryScalar(config, 46) }),
  layerModules: { ...gemma.layerModules, ffn_norm: 'pre_feedforward_layernorm' },
};

/** The scaling of queries, which no file states: llama.cpp knows the largest model, of 27 B, by its number of layers. */
function queryScalar(config: Config, layersOfLargest: number): unknown {
  const { num_hidden_layers: layers, hidden_size: width, num_attention_heads: heads, head_dim: size } = config;
  return layers === layersOfLargest ? Number(width) / Number(heads) : size;
}

/** The architectures that are read and written. */
export const FAMILIES: Readonly<Record<string, Family>> = {
  llama,
  qwen2: qwen,
  qwen3: qwen,
  olmo2: { ...qwen, layerModules: normedAfter },
  smollm3: llama, // every fourth layer is without positions, here and in llama.cpp
  granite: {
    ...llama,
    settings: {
      ...llama.settings,
      embedding_scale: 'embedding_multiplier',
      'attention.scale': 'attention_multiplier',
      residual_scale: 'residual_multiplier',
      logit_scale: 'logits_scaling',
    },
  },
  phi3: {
    ...qwen,
    settings: {
      ...qwen.settings,
      'rope.scaling.original_context_length': 'original_max_position_embeddings',
    },
    derived: ({ head_dim: size }, read) => ({
      partial_rotary_factor: Number(read('rope.dimension_count') ?? size) / Number(size),
      sliding_window: read('attention.sliding_window') || null, // 0: no window
    }),
    layerModules: { ...qwen.layerModules, attn_qkv: 'self_attn.qkv_proj', ffn_up: 'mlp.gate_up_proj' },
  },
  gemma,
  gemma2,
  gemma3: {
    ...gemma2,
    modelType: 'gemma3_text',
    settings: { ...gemma2.settings, 'rope.freq_base_swa': 'rope_local_base_freq' },
    derived: (config, read) => ({
      query_pre_attn_scalar: queryScalar(config, 62),
      sliding_window_pattern: config['sliding_window'] === undefined ? 1 : read('attention.sliding_window_pattern'),
    }),
  },
  gpt2: {
    settings: {
      block_count: 'n_layer',
      context_length: 'n_positions',
      embedding_length: 'n_embd',
      feed_forward_length: 'n_inner',
      'attention.head_count': 'n_head',
      'attention.layer_norm_epsilon': 'layer_norm_epsilon',
    },
    modules: { token_embd: 'transformer.wte', position_embd: 'transformer.wpe', output_norm: 'transformer.ln_f' },
    layers: 'transformer.h.',
    layerModules: {
      attn_norm: 'ln_1',
      attn_qkv: 'attn.c_attn',
      attn_output: 'attn.c_proj',
      ffn_norm: 'ln_2',
      ffn_up: 'mlp.c_fc',
      ffn_down: 'mlp.c_proj',
    },
    isRotary: false,
    transposes: ['attn_qkv', 'attn_output', 'ffn_up', 'ffn_down'],
  },
};

/** Types of transformers that are special cases of another one, with the architecture that they are written as. */
const SPECIAL_CASES: Readonly<Record<string, string>> = { mistral: 'llama' };

/** The types of transformers that are written. */
export const WRITTEN_TYPES: readonly string[] = [
  ...Object.entries(FAMILIES).map(([name, { modelType = name }]) => modelType),
  ...Object.keys(SPECIAL_CASES),
];

/** Returns the architecture of a `model_type` of transformers; undefined if it is not written. */
export function architectureFor(type: string): string | undefined {
  return SPECIAL_CASES[type] ?? Object.keys(FAMILIES).find((name) => (FAMILIES[name]?.modelType ?? name) === type);
}
