import { dropoutRate, orNull, positiveInteger, assertSetting } from '../transformers/config.js';
import { ropeSettings } from '../rope.js';
import { decoderType, evenLayers } from './decoder-settings.js';

/** Older files have other names for longrope. */
const ROPE_KINDS = { default: 'default', longrope: 'longrope', su: 'longrope', yarn: 'longrope' } as const;

/**
 * Phi-3 and Phi-4 as saved by transformers (Abdin et al., 2024): Llama's network with queries, keys and values in one
 * module, the gate and up projections in another, and longrope. Missing settings default to those of Phi-3 mini, as in
 * transformers.
 */
export const phi3Type = decoderType({
  name: 'phi3',
  savedBy: 'Phi3Model, Phi3ForCausalLM or Phi3ForSequenceClassification',
  ignoredSettings: ['original_max_position_embeddings', 'interpolate_factor', 'full_attn_mod'], // the first is only for longrope
  defaults: {
    vocabSize: 32_064,
    hiddenSize: 3072,
    intermediateSize: 8192,
    numHiddenLayers: 32,
    numAttentionHeads: 32,
    maxPositionEmbeddings: 4096,
    rmsNormEps: 1e-5,
    padTokenId: 32_000,
  },
  own(config, settings) {
    for (const name of ['attention_bias', 'mlp_bias', 'lm_head_bias']) assertSetting(config, name, false);
    const rope = ropeSettings(config, settings, {
      isPartial: true,
      kinds: ROPE_KINDS,
      originalMaxPositionEmbeddings: 4096,
    });
    const window = orNull(positiveInteger, config, 'sliding_window', null);
    const { scaling } = rope;
    return {
      isFused: true,
      dropout: { ...settings.dropout, residual: dropoutRate(config, 'resid_pdrop', 0) },
      layers: evenLayers(config, settings, { rope, window }),
      ...(scaling.kind === 'longrope' && { rebuildCacheAt: scaling.originalMaxPositionEmbeddings + 1 }),
    };
  },
});
