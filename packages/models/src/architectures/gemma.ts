/**
 * The Gemma models as saved by transformers: Llama's network with word embeddings times sqrt(H), norms that scale by
 * 1 + gain, GELU instead of SiLU, and tied embeddings.
 */
import { ropeIn, ropeSettings, type RopeConfig, type RotaryHeads } from '../rope.js';
import type { RotaryDecoderConfig } from '../rotary-config.js';
import {
  activation,
  assertSetting,
  positiveInteger,
  positiveNumber,
  orNull,
  section,
  setting,
  type ConfigFile,
} from '../transformers/config.js';
import {
  attentionBiases,
  decoderType,
  layerTypes,
  typedLayers,
  type DecoderSettings,
  type LayerType,
} from './decoder-settings.js';

/** Gemma (Gemma Team, 2024). Missing settings default to those of Gemma 7B, as in transformers. */
export const gemmaType = decoderType({
  name: 'gemma',
  savedBy: 'GemmaModel, GemmaForCausalLM or GemmaForSequenceClassification',
  ignoredSettings: ['hidden_activation'], // transformers reads `hidden_act`
  defaults: {
    vocabSize: 256_000,
    hiddenSize: 3072,
    intermediateSize: 24_576,
    numHiddenLayers: 28,
    numAttentionHeads: 16,
    numKeyValueHeads: 16,
    headDim: 256,
    maxPositionEmbeddings: 8192,
    tieWordEmbeddings: true,
    padTokenId: 0,
  },
  own(config, settings) {
    const isLegacy = setting(config, 'hidden_act') === 'gelu'; // the first files say so, but mean the tanh approximation
    return {
      ...gemmaSettings(config, settings),
      hiddenAct: isLegacy ? 'gelu_pytorch_tanh' : activation(config, 'hidden_act', 'gelu_pytorch_tanh'),
    };
  },
});

const GEMMA2_2B = {
  vocabSize: 256_000,
  hiddenSize: 2304,
  intermediateSize: 9216,
  numHiddenLayers: 26,
  numAttentionHeads: 8,
  numKeyValueHeads: 4,
  headDim: 256,
  maxPositionEmbeddings: 8192,
  tieWordEmbeddings: true,
  padTokenId: 0,
};

/**
 * Gemma 2 (Gemma Team, 2024): Gemma with norms before and after both parts of a layer, a sliding window in every second
 * layer, and soft-capped scores and logits. Missing settings default to those of Gemma 2 2B, as in transformers.
 */
export const gemma2Type = decoderType({
  name: 'gemma2',
  savedBy: 'Gemma2Model, Gemma2ForCausalLM or Gemma2ForSequenceClassification',
  ignoredSettings: ['hidden_act', 'cache_implementation'], // transformers reads `hidden_activation`
  defaults: GEMMA2_2B,
  own(config, settings) {
    const rope = ropeSettings(config, settings);
    const types = layerTypes(config, settings, (layer) => (layer % 2 === 0 ? 'sliding_attention' : 'full_attention'));
    const attentionSoftcap = orNull(positiveNumber, config, 'attn_logit_softcapping', 50);
    return {
      ...gemma2Settings(config, settings, { softcap: 30, types, rope: () => rope }),
      ...(attentionSoftcap !== null && { attentionSoftcap }),
    };
  },
});

/**
 * The text model of Gemma 3 (Gemma Team, 2025): Gemma 2 with norms of each head's queries and keys instead of
 * soft-capped scores. Five of six layers have a sliding window, with RoPE frequencies of their own. Missing settings
 * have the defaults of transformers.
 */
export const gemma3TextType = decoderType({
  name: 'gemma3_text',
  savedBy: 'Gemma3TextModel, Gemma3ForCausalLM or Gemma3TextForSequenceClassification',
  ignoredSettings: ['hidden_act', 'cache_implementation'], // transformers reads `hidden_activation`
  defaults: { ...GEMMA2_2B, vocabSize: 262_208, maxPositionEmbeddings: 131_072 },
  classifies: { texts: true, tokens: false },
  own(config, settings) {
    assertSetting(config, 'attn_logit_softcapping', null);
    const pattern = positiveInteger(config, 'sliding_window_pattern', 6);
    const types = layerTypes(config, settings, (layer) =>
      (layer + 1) % pattern === 0 ? 'full_attention' : 'sliding_attention',
    );
    const ropes = ropesOf(config, settings);
    const own = gemma2Settings(config, settings, { softcap: null, types, rope: (type) => ropes[type] });
    return { ...own, queryKeyNorm: 'head' };
  },
});

/** Returns the settings of every Gemma. @throws CheckpointError for bidirectional attention. */
function gemmaSettings(config: ConfigFile, { hiddenSize }: DecoderSettings): Partial<RotaryDecoderConfig> {
  assertSetting(config, 'use_bidirectional_attention', false);
  return { ...attentionBiases(config), normOffset: 1, embeddingScale: Math.sqrt(hiddenSize) };
}

/** What differs between Gemma 2 and 3. */
interface Gemma2 {
  /** The soft cap of the logits if config.json has none; null for no cap. */
  readonly softcap: number | null;
  readonly types: readonly LayerType[];
  readonly rope: (type: LayerType) => RopeConfig;
}

/** Returns the settings of Gemma 2 and 3. */
function gemma2Settings(
  config: ConfigFile,
  settings: DecoderSettings,
  { softcap, types, rope }: Gemma2,
): Partial<RotaryDecoderConfig> {
  const logitSoftcap = orNull(positiveNumber, config, 'final_logit_softcapping', softcap);
  const window = positiveInteger(config, 'sliding_window', 4096);
  return {
    ...gemmaSettings(config, settings),
    norms: {
      beforeAttention: 'input_layernorm',
      afterAttention: 'post_attention_layernorm',
      beforeFeedForward: 'pre_feedforward_layernorm',
      afterFeedForward: 'post_feedforward_layernorm',
    },
    hiddenAct: activation(config, 'hidden_activation', 'gelu_pytorch_tanh'),
    attentionScale: 1 / Math.sqrt(positiveNumber(config, 'query_pre_attn_scalar', 256)),
    layers: typedLayers(config, settings, { types, window, rope }),
    ...(logitSoftcap !== null && { logitSoftcap }),
  };
}

/**
 * Returns the RoPE of each layer type of Gemma 3. In the older form, `rope_scaling` is for full attention and the base
 * of sliding layers is separate.
 */
function ropesOf(config: ConfigFile, heads: RotaryHeads): Readonly<Record<LayerType, RopeConfig>> {
  const rope = (own: ConfigFile, theta: number, thetaName: string): RopeConfig => {
    assertSetting(own, 'truncate', true); // transformers does not read it from here
    return ropeIn(own, { config, heads, defaults: { theta, thetaName } });
  };
  const [older, current] = [section(config, 'rope_scaling'), section(config, 'rope_parameters')];
  const [all, near] = [section(current, 'full_attention'), section(current, 'sliding_attention')];
  return {
    full_attention: rope(setting(config, 'rope_scaling') ? older : all, 1_000_000, 'rope_theta'),
    sliding_attention: rope(near, 10_000, 'rope_local_base_freq'),
  };
}
