import { CheckpointError, type Task } from '@peftjs/core';
import type { Architecture } from '../architecture.js';
import { field } from '../json.js';
import { boolean, positiveInteger, positiveNumber, refuseUnless, type ConfigFile } from '../transformers/config.js';
import type { ModelType } from '../transformers/model-type.js';
import { llama, type LlamaConfig } from './architecture.js';
import { ropeSettings } from './rope.js';

/** Llama as transformers saves it, and SmolLM, which is one: `LlamaModel`, `LlamaForCausalLM` and others. */
export const llamaType: ModelType = {
  name: 'llama',
  savedBy: 'LlamaModel, LlamaForCausalLM or LlamaForSequenceClassification',
  prefix: 'model.',
  architecture,
};

/** What a config.json leaves out is as in Llama 2 7B, as transformers has it. */
function architecture(config: ConfigFile, task: Task): Architecture {
  const attentionBias = boolean(config, 'attention_bias', false);
  const sizes = {
    vocabSize: positiveInteger(config, 'vocab_size', 32_000),
    intermediateSize: positiveInteger(config, 'intermediate_size', 11_008),
    maxPositionEmbeddings: positiveInteger(config, 'max_position_embeddings', 2048),
  };
  const biases = { qkvBias: attentionBias, outputBias: attentionBias, mlpBias: boolean(config, 'mlp_bias', false) };
  return llama({ name: 'llama', ...sizes, ...biases, ...llamaSettings(config) }, task);
}

/** What a network of Llama's form brings itself: its name, and what config.json may leave out in its own way. */
type OwnSettings =
  'name' | 'vocabSize' | 'intermediateSize' | 'maxPositionEmbeddings' | 'qkvBias' | 'outputBias' | 'mlpBias';

/**
 * The settings that Llama shares with networks of its form.
 * @throws CheckpointError for a setting that is impossible, or that asks for what is not computed here.
 */
export function llamaSettings(config: ConfigFile): Omit<LlamaConfig, OwnSettings> {
  refuseUnless(config, 'hidden_act', 'silu');
  const hiddenSize = positiveInteger(config, 'hidden_size', 4096);
  const isSized = (field(config.settings, 'head_dim') ?? null) !== null;
  const divides = isSized ? {} : { divides: hiddenSize };
  const numAttentionHeads = positiveInteger(config, 'num_attention_heads', 32, divides);
  const headDim = positiveInteger(config, 'head_dim', hiddenSize / numAttentionHeads);
  if (headDim % 2 !== 0) {
    throw new CheckpointError(`${config.file}: 'head_dim' must be even, got ${headDim}`, config.file);
  }
  return {
    hiddenSize,
    numHiddenLayers: positiveInteger(config, 'num_hidden_layers', 32, { most: 1000 }),
    numAttentionHeads,
    numKeyValueHeads: positiveInteger(config, 'num_key_value_heads', numAttentionHeads, { divides: numAttentionHeads }),
    headDim,
    rmsNormEps: positiveNumber(config, 'rms_norm_eps', 1e-6),
    rope: ropeSettings(config),
    tieWordEmbeddings: boolean(config, 'tie_word_embeddings', false),
  };
}
