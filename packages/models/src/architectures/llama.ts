import type { Task } from '@peftjs/core/method';
import type { Architecture } from '../architecture.js';
import { rotaryDecoder } from '../rotary-decoder.js';
import { ropeSettings } from '../rope.js';
import { activation, boolean, type ConfigFile, type ModelType } from '../transformers/config.js';
import { attentionBiases, decoderSettings, evenLayers, PRE_NORMS } from './decoder-settings.js';

/** Llama, including SmolLM, as saved by transformers: `LlamaModel`, `LlamaForCausalLM` and others. */
export const llamaType: ModelType = {
  name: 'llama',
  savedBy: 'LlamaModel, LlamaForCausalLM or LlamaForSequenceClassification',
  prefix: 'model.',
  ignoredSettings: ['pretraining_tp', 'is_llama_config', 'max_sequence_length'],
  architecture,
};

/** Missing settings default to those of Llama 2 7B, as in transformers. */
function architecture(config: ConfigFile, task: Task): Architecture {
  const settings = decoderSettings(config, {
    vocabSize: 32_000,
    hiddenSize: 4096,
    intermediateSize: 11_008,
    numHiddenLayers: 32,
    numAttentionHeads: 32,
    maxPositionEmbeddings: 2048,
  });
  return rotaryDecoder(
    {
      ...settings,
      name: 'llama',
      norms: PRE_NORMS,
      ...attentionBiases(config),
      mlpBias: boolean(config, 'mlp_bias', false),
      hiddenAct: activation(config, 'hidden_act', 'silu'),
      layers: evenLayers(config, settings, { rope: ropeSettings(config, settings) }),
    },
    task,
  );
}
