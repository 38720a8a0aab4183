import type { Task } from '@peftjs/core/method';
import type { Architecture } from '../architecture.js';
import { rotaryDecoder } from '../rotary-decoder.js';
import { ropeIn, type RopeConfig, type RotaryHeads } from '../rope.js';
import {
  positiveInteger,
  assertSetting,
  section,
  setting,
  type ConfigFile,
  type ModelType,
} from '../transformers/config.js';
import { decoderSettings, layerTypes, typedLayers, type LayerType } from './decoder-settings.js';
import { gemma2Settings, gemmaSettings } from './gemma.js';

/**
 * The text model of Gemma 3 as saved by transformers (Gemma Team, 2025): Gemma 2 with norms of each head's queries and
 * keys instead of soft-capped scores. Five of six layers have a sliding window, with RoPE frequencies of their own.
 */
export const gemma3TextType: ModelType = {
  name: 'gemma3_text',
  savedBy: 'Gemma3TextModel, Gemma3ForCausalLM or Gemma3TextForSequenceClassification',
  prefix: 'model.',
  ignoredSettings: ['hidden_act', 'cache_implementation'], // transformers reads `hidden_activation`
  architecture,
};

/** Missing settings have the defaults of transformers. */
function architecture(config: ConfigFile, task: Task): Architecture {
  const settings = decoderSettings(config, {
    vocabSize: 262_208,
    hiddenSize: 2304,
    intermediateSize: 9216,
    numHiddenLayers: 26,
    numAttentionHeads: 8,
    numKeyValueHeads: 4,
    headDim: 256,
    maxPositionEmbeddings: 131_072,
    tieWordEmbeddings: true,
    padTokenId: 0,
  });
  assertSetting(config, 'attn_logit_softcapping', null);
  const pattern = positiveInteger(config, 'sliding_window_pattern', 6);
  const types = layerTypes(config, settings, (layer) =>
    (layer + 1) % pattern === 0 ? 'full_attention' : 'sliding_attention',
  );
  const window = positiveInteger(config, 'sliding_window', 4096);
  const ropes = ropesOf(config, settings);
  return rotaryDecoder(
    {
      ...gemmaSettings(config, settings),
      ...gemma2Settings(config, null),
      name: 'gemma3_text',
      queryKeyNorm: 'head',
      classifies: { texts: true, tokens: false },
      layers: typedLayers(config, settings, { types, window, rope: (type) => ropes[type] }),
    },
    task,
  );
}

/**
 * Returns the RoPE of each layer type. In the older form, `rope_scaling` is for full attention and the base of sliding
 * layers is separate.
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
