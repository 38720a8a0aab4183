/**
 * DistilBERT (Sanh et al., 2019): the encoder of encoder.ts, with output x_L and no token types, and the heads of
 * transformers. Module paths are those of DistilBertForSequenceClassification and DistilBertForTokenClassification.
 *
 *   of a text   relu(x_L[first token] W_d) W_c      W_d: pre_classifier
 *   of tokens   x_L W_c
 *   encode      mean over tokens of x_L
 */
import * as tf from '@tensorflow/tfjs-core';
import type { Tensor } from '@tensorflow/tfjs-core';
import { denseHead, type Dropout } from '../architecture.js';
import { encoderWithHead, type EncoderConfig } from '../encoder.js';
import { activation, dropoutRate, positiveInteger, type ConfigFile, type ModelType } from '../transformers/config.js';

const layerNames = {
  query: 'attention.q_lin',
  key: 'attention.k_lin',
  value: 'attention.v_lin',
  output: 'attention.out_lin',
  outputNorm: 'sa_layer_norm',
  inner: 'ffn.lin1',
  outer: 'ffn.lin2',
  outerNorm: 'output_layer_norm',
  dropouts: { attention: 'attention.dropout', outer: 'ffn.dropout' },
};

const OF_TEXTS = {
  trained: ['pre_classifier', 'classifier'],
  dense: 'pre_classifier',
  out: 'classifier',
  activation: (x: Tensor) => tf.relu(x),
};

/** DistilBERT as saved by transformers: `DistilBertModel`, `DistilBertForSequenceClassification` and others. */
export const distilbertType: ModelType = {
  name: 'distilbert',
  savedBy: 'DistilBertModel or DistilBertForSequenceClassification',
  prefix: 'distilbert.',
  ignoredSettings: ['qa_dropout', 'sinusoidal_pos_embds', 'tie_weights_'],
  architecture(config, task) {
    const out: Dropout = ['dropout', dropoutRate(config, 'seq_classif_dropout', 0.2)];
    const ofTexts = { ...OF_TEXTS, dropout: { out } };
    return encoderWithHead(encoderConfig(config), (...features) => denseHead(ofTexts, ...features), task);
  },
};

/**
 * Missing settings default to those of distilbert-base-uncased, as in transformers. Sinusoidal positions are stored as
 * a table too.
 */
function encoderConfig(config: ConfigFile): EncoderConfig {
  const hiddenSize = positiveInteger(config, 'dim', 768);
  const hidden = dropoutRate(config, 'dropout', 0.1);
  return {
    root: 'distilbert',
    layers: 'transformer.layer',
    names: layerNames,
    vocabSize: positiveInteger(config, 'vocab_size', 30_522),
    hiddenSize,
    numHiddenLayers: positiveInteger(config, 'n_layers', 6, { most: 1000 }),
    numAttentionHeads: positiveInteger(config, 'n_heads', 12, { divides: hiddenSize }),
    intermediateSize: positiveInteger(config, 'hidden_dim', 3072),
    maxPositionEmbeddings: positiveInteger(config, 'max_position_embeddings', 512),
    layerNormEps: 1e-12,
    hiddenAct: activation(config, 'activation', 'gelu'),
    dropout: { hidden, attention: dropoutRate(config, 'attention_dropout', 0.1), tokens: hidden },
    defaultTargetModules: ['q_lin', 'v_lin'],
  };
}
