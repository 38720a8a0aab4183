import type { Task } from '@peftjs/core/method';
import type { Architecture } from '../architecture.js';
import { rotaryDecoder } from '../rotary-decoder.js';
import { activation, assertSetting, type ConfigFile, type ModelType } from '../transformers/config.js';
import { decoderSettings, PRE_NORMS, qwenLayers } from './decoder-settings.js';

/** Qwen2 and Qwen2.5 as saved by transformers: Llama's network with a bias on queries, keys and values. */
export const qwen2Type: ModelType = {
  name: 'qwen2',
  savedBy: 'Qwen2Model, Qwen2ForCausalLM or Qwen2ForSequenceClassification',
  prefix: 'model.',
  architecture,
};

/** Missing settings default to those of Qwen2 7B, as in transformers. */
function architecture(config: ConfigFile, task: Task): Architecture {
  assertSetting(config, 'use_mrope', false);
  const settings = decoderSettings(config, {
    vocabSize: 151_936,
    hiddenSize: 4096,
    intermediateSize: 22_016,
    numHiddenLayers: 32,
    numAttentionHeads: 32,
    maxPositionEmbeddings: 32_768,
  });
  return rotaryDecoder(
    {
      ...settings,
      name: 'qwen2',
      norms: PRE_NORMS,
      qkvBias: true,
      hiddenAct: activation(config, 'hidden_act', 'silu'),
      layers: qwenLayers(config, settings),
    },
    task,
  );
}
