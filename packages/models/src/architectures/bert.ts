/**
 * BERT (Devlin et al., 2019): the encoder of encoder.ts, with output x_L, and the heads of transformers. Module paths
 * are those of BertForSequenceClassification and BertForTokenClassification.
 *
 *   of a text   tanh(x_L[first token] W_p) W_c
 *   of tokens   x_L W_c
 *   encode      mean over tokens of x_L
 */
import { linearSite, type Task } from '@peftjs/core/model';
import * as tf from '@tensorflow/tfjs-core';
import { linearHead, type Architecture, type Features, type Head } from '../architecture.js';
import { bertLayerNames, encoderWithHead, type EncoderConfig, type EncoderDropout } from '../encoder.js';
import {
  activation,
  dropoutRate,
  positiveInteger,
  positiveNumber,
  assertSetting,
  type ConfigFile,
  type ModelType,
} from '../transformers/config.js';

/** What RoBERTa and ELECTRA share with BERT: module names and default target modules. */
export const bertFamily: Pick<EncoderConfig, 'layers' | 'names' | 'defaultTargetModules'> = {
  layers: 'encoder.layer',
  names: bertLayerNames,
  defaultTargetModules: ['query', 'value'],
};

/** BERT as saved by transformers: `BertModel`, `BertForSequenceClassification` and any class with the whole encoder. */
export const bertType: ModelType = {
  name: 'bert',
  savedBy: 'BertModel or BertForSequenceClassification',
  prefix: 'bert.',
  ignoredSettings: [
    'directionality',
    'pooler_fc_size',
    'pooler_num_attention_heads',
    'pooler_num_fc_layers',
    'pooler_size_per_head',
    'pooler_type',
  ],
  architecture,
};

/** Missing settings default to those of bert-base-uncased, as in transformers. */
function architecture(config: ConfigFile, task: Task): Architecture {
  const hiddenSize = positiveInteger(config, 'hidden_size', 768);
  const settings = bertSettings(config, { hiddenSize, intermediateSize: 3072, numAttentionHeads: 12 });
  const pooler = linearSite('bert.pooler.dense', hiddenSize, hiddenSize);
  const ofTexts = (width: number, first: Features): Head =>
    linearHead({ path: 'classifier', dropout: settings.dropout.tokens }, width, (scope, inputs) =>
      tf.tanh(scope.linear(pooler.path, first(scope, inputs))),
    );
  const network = encoderWithHead({ ...settings, ...bertFamily, root: 'bert' }, ofTexts, task);
  if (task === 'token-classification') return network;
  return { ...network, ...(task === 'sequence-classification' && { sites: [...network.sites, pooler] }), pooler };
}

/** The settings that BERT shares with its successors. */
type BertSettings = Omit<EncoderConfig, 'root' | keyof typeof bertFamily> & Required<Pick<EncoderConfig, 'dropout'>>;

/**
 * Reads the settings of BERT and of the models that share them.
 * @param defaults The sizes, whose defaults differ.
 * @throws CheckpointError for a setting that is invalid or not supported.
 */
export function bertSettings(
  config: ConfigFile,
  defaults: Pick<EncoderConfig, 'hiddenSize' | 'intermediateSize' | 'numAttentionHeads'>,
): BertSettings {
  const { hiddenSize, intermediateSize, numAttentionHeads } = defaults;
  assertSetting(config, 'position_embedding_type', 'absolute');
  assertSetting(config, 'is_decoder', false);
  return {
    vocabSize: positiveInteger(config, 'vocab_size', 30_522),
    hiddenSize,
    numHiddenLayers: positiveInteger(config, 'num_hidden_layers', 12, { most: 1000 }),
    numAttentionHeads: positiveInteger(config, 'num_attention_heads', numAttentionHeads, { divides: hiddenSize }),
    intermediateSize: positiveInteger(config, 'intermediate_size', intermediateSize),
    maxPositionEmbeddings: positiveInteger(config, 'max_position_embeddings', 512),
    typeVocabSize: positiveInteger(config, 'type_vocab_size', 2),
    layerNormEps: positiveNumber(config, 'layer_norm_eps', 1e-12),
    hiddenAct: activation(config, 'hidden_act', 'gelu'),
    dropout: bertDropout(config, 'classifier_dropout'),
  };
}

/**
 * Reads the rates of dropout.
 * @param ofHead The setting for the head. Default: that of hidden states.
 * @throws CheckpointError for an invalid rate.
 */
export function bertDropout(config: ConfigFile, ofHead?: string): EncoderDropout {
  const hidden = dropoutRate(config, 'hidden_dropout_prob', 0.1);
  return {
    hidden,
    attention: dropoutRate(config, 'attention_probs_dropout_prob', 0.1),
    tokens: ofHead === undefined ? hidden : dropoutRate(config, ofHead, hidden),
  };
}
