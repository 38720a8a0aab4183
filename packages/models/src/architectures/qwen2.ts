import { CheckpointError, type Task } from '@peftjs/core/method';
import type { Architecture } from '../architecture.js';
import { shown } from '../json.js';
import { positiveInteger, refuseUnless, setting, type ConfigFile, type ModelType } from '../transformers/config.js';
import { llama, llamaSettings } from './llama.js';

/** Qwen2 and Qwen2.5 as transformers saves them: Llama's network with a bias on queries, keys and values. */
export const qwen2Type: ModelType = {
  name: 'qwen2',
  savedBy: 'Qwen2Model, Qwen2ForCausalLM or Qwen2ForSequenceClassification',
  prefix: 'model.',
  inert: ['max_window_layers', 'sliding_window'], // of `use_sliding_window`, which is refused
  architecture,
};

/** What a config.json leaves out is as in Qwen2 7B, as transformers has it. */
function architecture(config: ConfigFile, task: Task): Architecture {
  refuseUnless(config, 'use_sliding_window', false);
  refuseUnless(config, 'use_mrope', false);
  refuseSlidingLayers(config);
  const sizes = {
    vocabSize: positiveInteger(config, 'vocab_size', 151_936),
    intermediateSize: positiveInteger(config, 'intermediate_size', 22_016),
    maxPositionEmbeddings: positiveInteger(config, 'max_position_embeddings', 32_768),
  };
  const biases = { qkvBias: true, outputBias: false, mlpBias: false };
  return llama({ name: 'qwen2', ...sizes, ...biases, ...llamaSettings(config) }, task);
}

function refuseSlidingLayers(config: ConfigFile): void {
  const { file } = config;
  const types = setting(config, 'layer_types') ?? [];
  if (Array.isArray(types) && types.every((type) => type === 'full_attention')) return;
  throw new CheckpointError(
    `${file}: 'layer_types' must all be "full_attention", got ${shown(types)}, which is not supported`,
    file,
  );
}
