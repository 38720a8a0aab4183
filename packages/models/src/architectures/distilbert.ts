/**
 * DistilBERT (Sanh et al., 2019): the encoder of encoder.ts, with output x_L and no token types, and the heads of
 * transformers. Module paths are those of DistilBertForSequenceClassification and DistilBertForTokenClassification.
 *
 *   of a text   relu(x_L[first token] W_d) W_c      W_d: pre_classifier
 *   of tokens   x_L W_c
 *   encode      mean over tokens of x_L
 */
import type { Task } from '@peftjs/core/method';
import type { ActivationName } from '@peftjs/core/nn';
import * as tf from '@tensorflow/tfjs';
import { denseHead, headFor, linearHead, noHead, type Architecture } from '../architecture.js';
import { encoderNetwork, everyTokenOf, firstTokenOf, type EncoderConfig } from '../encoder.js';
import { activation, positiveInteger, type ConfigFile, type ModelType } from '../transformers/config.js';

/** The settings of config.json that the network depends on, with their names in camel case. */
interface DistilbertConfig {
  readonly vocabSize: number;
  readonly dim: number;
  readonly nLayers: number;
  /** Must divide `dim`. */
  readonly nHeads: number;
  readonly hiddenDim: number;
  readonly maxPositionEmbeddings: number;
  readonly activation: ActivationName;
}

const LAYER_NORM_EPSILON = 1e-12;

const layerNames = {
  query: 'attention.q_lin',
  key: 'attention.k_lin',
  value: 'attention.v_lin',
  output: 'attention.out_lin',
  outputNorm: 'sa_layer_norm',
  inner: 'ffn.lin1',
  outer: 'ffn.lin2',
  outerNorm: 'output_layer_norm',
};

/** Builds the network for a task. @throws UnsupportedError when it has no head for the task. */
function distilbert(config: DistilbertConfig, task: Task): Architecture {
  const { dim } = config;
  const encoder: EncoderConfig = {
    root: 'distilbert',
    layers: 'transformer.layer',
    names: layerNames,
    vocabSize: config.vocabSize,
    hiddenSize: dim,
    numHiddenLayers: config.nLayers,
    numAttentionHeads: config.nHeads,
    intermediateSize: config.hiddenDim,
    maxPositionEmbeddings: config.maxPositionEmbeddings,
    layerNormEps: LAYER_NORM_EPSILON,
    hiddenAct: config.activation,
    defaultTargetModules: ['q_lin', 'v_lin'],
  };
  const names = { trained: ['pre_classifier', 'classifier'], dense: 'pre_classifier', out: 'classifier' };
  const heads = {
    'sequence-classification': denseHead({ ...names, activation: tf.relu }, dim, firstTokenOf(encoder)),
    'token-classification': linearHead({ path: 'classifier' }, dim, everyTokenOf(encoder)),
    'feature-extraction': noHead(everyTokenOf(encoder)),
  };
  return { ...encoderNetwork(encoder), head: headFor('distilbert', heads, task) };
}

/** DistilBERT as saved by transformers: `DistilBertModel`, `DistilBertForSequenceClassification` and others. */
export const distilbertType: ModelType = {
  name: 'distilbert',
  savedBy: 'DistilBertModel or DistilBertForSequenceClassification',
  prefix: 'distilbert.',
  ignoredSettings: ['qa_dropout', 'seq_classif_dropout', 'sinusoidal_pos_embds', 'tie_weights_'],
  architecture,
};

/**
 * Missing settings default to those of distilbert-base-uncased, as in transformers. Sinusoidal positions are stored as
 * a table too.
 */
function architecture(config: ConfigFile, task: Task): Architecture {
  const dim = positiveInteger(config, 'dim', 768);
  return distilbert(
    {
      vocabSize: positiveInteger(config, 'vocab_size', 30_522),
      dim,
      nLayers: positiveInteger(config, 'n_layers', 6, { most: 1000 }),
      nHeads: positiveInteger(config, 'n_heads', 12, { divides: dim }),
      hiddenDim: positiveInteger(config, 'hidden_dim', 3072),
      maxPositionEmbeddings: positiveInteger(config, 'max_position_embeddings', 512),
      activation: activation(config, 'activation', 'gelu'),
    },
    task,
  );
}
