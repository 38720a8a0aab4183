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
 * Mistral as saved by transformers: Llama's network with a sliding window (Jiang et al., 2023), or full attention if
 * that is null.
 */
export const mistralType: ModelType = {
  name: 'mistral',
  savedBy: 'MistralModel, MistralForCausalLM or MistralForSequenceClassification',
  prefix: 'model.',
  architecture,
};

/** Missing settings default to those of Mistral 7B v0.1, as in transformers. */
function architecture(config: ConfigFile, task: Task): Architecture {
  const settings = decoderSettings(config, {
    vocabSize: 32_000,
    hiddenSize: 4096,
    intermediateSize: 14_336,
    numHiddenLayers: 32,
    numAttentionHeads: 32,
    numKeyValueHeads: 8,
    maxPositionEmbeddings: 131_072,
  });
  assertSetting(config, 'attention_bias', false);
  const rope = ropeSettings(config, settings);
  const window = positiveIntegerOrNull(config, 'sliding_window', 4096);
  return rotaryDecoder(
    {
      ...settings,
      name: 'mistral',
      norms: PRE_NORMS,
      hiddenAct: activation(config, 'hidden_act', 'silu'),
      layers: evenLayers(config, settings, { rope, window }),
    },
    task,
  );
}
