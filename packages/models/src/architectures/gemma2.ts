import type { Task } from '@peftjs/core/method';
import type { Architecture } from '../architecture.js';
import { rotaryDecoder } from '../rotary-decoder.js';
import { ropeSettings } from '../rope.js';
import { positiveInteger, positiveNumberOrNull, type ConfigFile, type ModelType } from '../transformers/config.js';
import { decoderSettings, layerTypes, typedLayers } from './decoder-settings.js';
import { gemma2Settings, gemmaSettings } from './gemma.js';

/**
 * Gemma 2 as saved by transformers (Gemma Team, 2024): Gemma with norms before and after both parts of a layer, a
 * sliding window in every second layer, and soft-capped scores and logits.
 */
export const gemma2Type: ModelType = {
  name: 'gemma2',
  savedBy: 'Gemma2Model, Gemma2ForCausalLM or Gemma2ForSequenceClassification',
  prefix: 'model.',
  ignoredSettings: ['hidden_act', 'cache_implementation'], // transformers reads `hidden_activation`
  architecture,
};

/** Missing settings default to those of Gemma 2 2B, as in transformers. */
function architecture(config: ConfigFile, task: Task): Architecture {
  const settings = decoderSettings(config, {
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
  });
  const rope = ropeSettings(config, settings);
  const types = layerTypes(config, settings, (layer) => (layer % 2 === 0 ? 'sliding_attention' : 'full_attention'));
  const window = positiveInteger(config, 'sliding_window', 4096);
  const attentionSoftcap = positiveNumberOrNull(config, 'attn_logit_softcapping', 50);
  return rotaryDecoder(
    {
      ...gemmaSettings(config, settings),
      ...gemma2Settings(config, 30),
      name: 'gemma2',
      layers: typedLayers(config, settings, { types, window, rope: () => rope }),
      ...(attentionSoftcap !== null && { attentionSoftcap }),
    },
    task,
  );
}
