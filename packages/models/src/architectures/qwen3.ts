import type { Task } from '@peftjs/core/method';
import type { Architecture } from '../architecture.js';
import { rotaryDecoder } from '../rotary-decoder.js';
import { activation, type ConfigFile, type ModelType } from '../transformers/config.js';
import { attentionBiases, decoderSettings, PRE_NORMS, qwenLayers } from './decoder-settings.js';

/** Qwen3 as saved by transformers: Llama's network with norms of each head's queries and keys. */
export const qwen3Type: ModelType = {
  name: 'qwen3',
  savedBy: 'Qwen3Model, Qwen3ForCausalLM or Qwen3ForSequenceClassification',
  prefix: 'model.',
  architecture,
};

/** Missing settings default to those of Qwen3 8B, as in transformers. */
function architecture(config: ConfigFile, task: Task): Architecture {
  const settings = decoderSettings(config, {
    vocabSize: 151_936,
    hiddenSize: 4096,
    intermediateSize: 22_016,
    numHiddenLayers: 32,
    numAttentionHeads: 32,
    numKeyValueHeads: 32,
    headDim: 128,
    maxPositionEmbeddings: 32_768,
  });
  return rotaryDecoder(
    {
      ...settings,
      name: 'qwen3',
      norms: PRE_NORMS,
      queryKeyNorm: 'head',
      ...attentionBiases(config),
      hiddenAct: activation(config, 'hidden_act', 'silu'),
      layers: qwenLayers(config, settings),
    },
    task,
  );
}
