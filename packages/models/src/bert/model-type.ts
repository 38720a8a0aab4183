import type { Task } from '@peftjs/core';
import { positiveInteger, positiveNumber, refuseUnless, type ConfigFile } from '../transformers/config.js';
import type { ModelType } from '../transformers/model-type.js';
import type { Architecture } from '../architecture.js';
import { bert, type BertConfig } from './architecture.js';

/** BERT as transformers saves it: `BertModel`, `BertForSequenceClassification` and what else holds the whole encoder. */
export const bertType: ModelType = {
  name: 'bert',
  savedBy: 'BertModel or BertForSequenceClassification',
  prefix: 'bert.',
  architecture,
};

/** What a config.json leaves out is as in bert-base-uncased, as transformers has it. */
function architecture(config: ConfigFile, task: Task): Architecture {
  const hiddenSize = positiveInteger(config, 'hidden_size', 768);
  return bert(bertSettings(config, { hiddenSize, intermediateSize: 3072, numAttentionHeads: 12 }), task);
}

/** Sizes that its kinds leave out of config.json each in their own way. */
type BertSizes = Pick<BertConfig, 'hiddenSize' | 'intermediateSize' | 'numAttentionHeads'>;

/**
 * The settings of BERT and of those that share them.
 * @throws CheckpointError for a setting that is impossible, or that asks for what is not computed here.
 */
export function bertSettings(
  config: ConfigFile,
  { hiddenSize, intermediateSize, numAttentionHeads }: BertSizes,
): BertConfig {
  refuseUnless(config, 'hidden_act', 'gelu');
  refuseUnless(config, 'position_embedding_type', 'absolute');
  refuseUnless(config, 'is_decoder', false);
  return {
    vocabSize: positiveInteger(config, 'vocab_size', 30_522),
    hiddenSize,
    numHiddenLayers: positiveInteger(config, 'num_hidden_layers', 12, { most: 1000 }),
    numAttentionHeads: positiveInteger(config, 'num_attention_heads', numAttentionHeads, { divides: hiddenSize }),
    intermediateSize: positiveInteger(config, 'intermediate_size', intermediateSize),
    maxPositionEmbeddings: positiveInteger(config, 'max_position_embeddings', 512),
    typeVocabSize: positiveInteger(config, 'type_vocab_size', 2),
    layerNormEps: positiveNumber(config, 'layer_norm_eps', 1e-12),
  };
}
