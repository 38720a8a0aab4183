/** Llama, including SmolLM (Touvron et al., 2023), and the families that differ from it in a few settings. */
import {
  assertSetting,
  boolean,
  nonNegativeInteger,
  orNull,
  positiveInteger,
  positiveNumber,
  type ConfigFile,
} from '../transformers/config.js';
import type { RotaryLayer } from '../rotary-config.js';
import { ropeSettings } from '../rope.js';
import {
  attentionBiases,
  decoderType,
  evenLayers,
  layerTypes,
  llamaBiases,
  typedLayers,
  type DecoderSettings,
} from './decoder-settings.js';

const LLAMA_2_7B = {
  vocabSize: 32_000,
  hiddenSize: 4096,
  intermediateSize: 11_008,
  numHiddenLayers: 32,
  numAttentionHeads: 32,
  maxPositionEmbeddings: 2048,
};

/** Llama as saved by transformers. Missing settings default to those of Llama 2 7B, as in transformers. */
export const llamaType = decoderType({
  name: 'llama',
  savedBy: 'LlamaModel, LlamaForCausalLM or LlamaForSequenceClassification',
  ignoredSettings: ['pretraining_tp', 'is_llama_config', 'max_sequence_length'],
  defaults: LLAMA_2_7B,
  own: llamaBiases,
});

/**
 * Granite as saved by transformers (IBM Granite Team, 2024): scale factors for word embeddings, scores, residuals and
 * logits. Transformers has no classifiers for it. Missing settings have the defaults of transformers.
 */
export const graniteType = decoderType({
  name: 'granite',
  savedBy: 'GraniteModel or GraniteForCausalLM',
  defaults: LLAMA_2_7B,
  classifies: { texts: false, tokens: false },
  own: (config) => ({
    ...llamaBiases(config),
    embeddingScale: positiveNumber(config, 'embedding_multiplier', 1),
    attentionScale: positiveNumber(config, 'attention_multiplier', 1),
    residualScale: positiveNumber(config, 'residual_multiplier', 1),
    logitDivisor: positiveNumber(config, 'logits_scaling', 1),
  }),
});

/**
 * Mistral as saved by transformers (Jiang et al., 2023): a sliding window, or full attention if that is null. Missing
 * settings default to those of Mistral 7B v0.1, as in transformers.
 */
export const mistralType = decoderType({
  name: 'mistral',
  savedBy: 'MistralModel, MistralForCausalLM or MistralForSequenceClassification',
  defaults: { ...LLAMA_2_7B, intermediateSize: 14_336, numKeyValueHeads: 8, maxPositionEmbeddings: 131_072 },
  own(config, settings) {
    assertSetting(config, 'attention_bias', false);
    const rope = ropeSettings(config, settings);
    const window = orNull(positiveInteger, config, 'sliding_window', 4096);
    return { layers: evenLayers(config, settings, { rope, window }) };
  },
});

/**
 * OLMo 2 as saved by transformers (OLMo Team, 2025): norms after attention and the feed-forward module instead of
 * before, and one norm over all queries and one over all keys. Missing settings default to those of OLMo 2 7B, as in
 * transformers.
 */
export const olmo2Type = decoderType({
  name: 'olmo2',
  savedBy: 'Olmo2Model, Olmo2ForCausalLM or Olmo2ForSequenceClassification',
  defaults: { ...LLAMA_2_7B, vocabSize: 50_304, rmsNormEps: 1e-5, padTokenId: 1 },
  classifies: { texts: true, tokens: false },
  own: (config) => ({
    ...attentionBiases(config),
    norms: { afterAttention: 'post_attention_layernorm', afterFeedForward: 'post_feedforward_layernorm' },
    queryKeyNorm: 'all',
  }),
});

const QWEN2_7B = { ...LLAMA_2_7B, vocabSize: 151_936, intermediateSize: 22_016, maxPositionEmbeddings: 32_768 };

/**
 * Qwen2 and Qwen2.5 as saved by transformers: a bias on queries, keys and values. Missing settings default to those of
 * Qwen2 7B, as in transformers.
 */
export const qwen2Type = decoderType({
  name: 'qwen2',
  savedBy: 'Qwen2Model, Qwen2ForCausalLM or Qwen2ForSequenceClassification',
  defaults: QWEN2_7B,
  own(config, settings) {
    assertSetting(config, 'use_mrope', false);
    return { qkvBias: true, layers: qwenLayers(config, settings) };
  },
});

/**
 * Qwen3 as saved by transformers: norms of each head's queries and keys. Missing settings default to those of Qwen3 8B,
 * as in transformers.
 */
export const qwen3Type = decoderType({
  name: 'qwen3',
  savedBy: 'Qwen3Model, Qwen3ForCausalLM or Qwen3ForSequenceClassification',
  defaults: { ...QWEN2_7B, numKeyValueHeads: 32, headDim: 128 },
  own: (config, settings) => ({
    ...attentionBiases(config),
    queryKeyNorm: 'head',
    layers: qwenLayers(config, settings),
  }),
});

/**
 * Returns the layers of Qwen2 and Qwen3. With `use_sliding_window`, the layers from `max_window_layers` on have a
 * window, or those that `layer_types` names.
 */
function qwenLayers(config: ConfigFile, settings: DecoderSettings): RotaryLayer[] {
  const rope = ropeSettings(config, settings);
  const given = orNull(positiveInteger, config, 'sliding_window', 4096);
  const window = boolean(config, 'use_sliding_window', false) ? given : null;
  const first = nonNegativeInteger(config, 'max_window_layers', 28);
  const types = layerTypes(config, settings, (layer) =>
    window !== null && layer >= first ? 'sliding_attention' : 'full_attention',
  );
  return typedLayers(config, settings, { types, window, rope: () => rope });
}
