import type { Task } from '@peftjs/core/method';
import type { Architecture } from '../architecture.js';
import { rotaryDecoder } from '../rotary-decoder.js';
import { ropeSettings } from '../rope.js';
import {
  activation,
  positiveIntegerOrNull,
  assertSetting,
  type ConfigFile,
  type ModelType,
} from '../transformers/config.js';
import { decoderSettings, evenLayers, PRE_NORMS } from './decoder-settings.js';

/**
 * Phi-3 and Phi-4 as saved by transformers (Abdin et al., 2024): Llama's network with queries, keys and values in one
 * module, the gate and up projections in another, and longrope.
 */
export const phi3Type: ModelType = {
  name: 'phi3',
  savedBy: 'Phi3Model, Phi3ForCausalLM or Phi3ForSequenceClassification',
  prefix: 'model.',
  ignoredSettings: ['original_max_position_embeddings', 'interpolate_factor', 'full_attn_mod'], // the first is only for longrope
  architecture,
};

/** Older files have other names for longrope. */
const ROPE_KINDS = { default: 'default', longrope: 'longrope', su: 'longrope', yarn: 'longrope' } as const;

/** Missing settings default to those of Phi-3 mini, as in transformers. */
function architecture(config: ConfigFile, task: Task): Architecture {
  const settings = decoderSettings(config, {
    vocabSize: 32_064,
    hiddenSize: 3072,
    intermediateSize: 8192,
    numHiddenLayers: 32,
    numAttentionHeads: 32,
    maxPositionEmbeddings: 4096,
    rmsNormEps: 1e-5,
    padTokenId: 32_000,
  });
  for (const name of ['attention_bias', 'mlp_bias', 'lm_head_bias']) assertSetting(config, name, false);
  const rope = ropeSettings(config, settings, {
    isPartial: true,
    kinds: ROPE_KINDS,
    originalMaxPositionEmbeddings: 4096,
  });
  const window = positiveIntegerOrNull(config, 'sliding_window', null);
  const { scaling } = rope;
  return rotaryDecoder(
    {
      ...settings,
      name: 'phi3',
      norms: PRE_NORMS,
      isFused: true,
      hiddenAct: activation(config, 'hidden_act', 'silu'),
      layers: evenLayers(config, settings, { rope, window }),
      ...(scaling.kind === 'longrope' && { rebuildCacheAt: scaling.originalMaxPositionEmbeddings + 1 }),
    },
    task,
  );
}
