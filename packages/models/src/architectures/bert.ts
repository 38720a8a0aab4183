/**
 * BERT (Devlin et al., 2019): the encoder of encoder.ts, with output x_L, and the heads of transformers. Module paths
 * are those of BertForSequenceClassification and BertForTokenClassification.
 *
 *   of a text   tanh(x_L[first token] W_p) W_c
 *   of tokens   x_L W_c
 *   encode      mean over tokens of x_L
 */
import { linearSite, type Task } from '@peftjs/core/method';
import type { ActivationName } from '@peftjs/core/nn';
import * as tf from '@tensorflow/tfjs';
import { headFor, linearHead, noHead, type Architecture } from '../architecture.js';
import { bertLayerNames, encoderNetwork, everyTokenOf, firstTokenOf, type EncoderConfig } from '../encoder.js';
import {
  activation,
  positiveInteger,
  positiveNumber,
  assertSetting,
  type ConfigFile,
  type ModelType,
} from '../transformers/config.js';

/** The settings of config.json that the network depends on, with their names in camel case. */
export interface BertConfig {
  /** The number of tokens in the vocabulary. */
  readonly vocabSize: number;
  /** The width of the hidden states, H. */
  readonly hiddenSize: number;
  /** The number of transformer layers. */
  readonly numHiddenLayers: number;
  /** The number of attention heads; must divide `hiddenSize`. */
  readonly numAttentionHeads: number;
  /** The width inside the feed-forward module. */
  readonly intermediateSize: number;
  /** The number of learned positions: the longest sequence, in tokens. */
  readonly maxPositionEmbeddings: number;
  /** The number of token types. */
  readonly typeVocabSize: number;
  /** Epsilon of every layer norm. */
  readonly layerNormEps: number;
  /** The activation of the feed-forward module. */
  readonly hiddenAct: ActivationName;
}

/** What RoBERTa and ELECTRA share with BERT: module names and default target modules. */
export const bertFamily: Pick<EncoderConfig, 'layers' | 'names'> & Pick<Architecture, 'defaultTargetModules'> = {
  layers: 'encoder.layer',
  names: bertLayerNames,
  defaultTargetModules: ['query', 'value'],
};

/** Builds the network for a task. @throws UnsupportedError when it has no head for the task. */
function bert(config: BertConfig, task: Task): Architecture {
  const { hiddenSize } = config;
  const encoder: EncoderConfig = { ...config, ...bertFamily, root: 'bert' };
  const network = encoderNetwork(encoder);
  const first = firstTokenOf(encoder);
  const pooler = linearSite('bert.pooler.dense', hiddenSize, hiddenSize);
  const pooled = linearHead({ path: 'classifier' }, hiddenSize, (scope, inputs) =>
    tf.tanh(scope.linear(pooler.path, first(scope, inputs))),
  );
  return headFor<Architecture>(
    'bert',
    {
      'sequence-classification': {
        ...network,
        sites: [...network.sites, pooler],
        head: pooled,
        pooler,
      },
      'token-classification': {
        ...network,
        head: linearHead({ path: 'classifier' }, hiddenSize, everyTokenOf(encoder)),
      },
      'feature-extraction': { ...network, head: noHead(everyTokenOf(encoder)), pooler },
    },
    task,
  );
}

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
  return bert(bertSettings(config, { hiddenSize, intermediateSize: 3072, numAttentionHeads: 12 }), task);
}

/** The sizes whose defaults differ between BERT and the models that share its settings. */
type BertSizes = Pick<BertConfig, 'hiddenSize' | 'intermediateSize' | 'numAttentionHeads'>;

/**
 * Reads the settings of BERT and of the models that share them.
 * @throws CheckpointError for a setting that is invalid or not supported.
 */
export function bertSettings(
  config: ConfigFile,
  { hiddenSize, intermediateSize, numAttentionHeads }: BertSizes,
): BertConfig {
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
  };
}
