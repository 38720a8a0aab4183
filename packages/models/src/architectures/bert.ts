/**
 * BERT (Devlin et al., 2019): the encoder of encoder.ts, x_L being what it ends with, and the heads of transformers. Module paths
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
  refuseUnless,
  type ConfigFile,
  type ModelType,
} from '../transformers/config.js';

/** The settings of config.json that the network depends on, under their names there. */
export interface BertConfig {
  readonly vocabSize: number;
  readonly hiddenSize: number;
  readonly numHiddenLayers: number;
  /** Divides `hiddenSize`. */
  readonly numAttentionHeads: number;
  readonly intermediateSize: number;
  readonly maxPositionEmbeddings: number;
  readonly typeVocabSize: number;
  readonly layerNormEps: number;
  readonly hiddenAct: ActivationName;
}

/** What RoBERTa and ELECTRA share with BERT: names, and the modules that are adapted unless others are named. */
export const bertFamily: Pick<EncoderConfig, 'layers' | 'names'> & Pick<Architecture, 'defaultTargetModules'> = {
  layers: 'encoder.layer',
  names: bertLayerNames,
  defaultTargetModules: ['query', 'value'],
};

/** The network of a configuration for a task. @throws UnsupportedError for a task that it has no head for. */
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

/** BERT as transformers saves it: `BertModel`, `BertForSequenceClassification` and what else holds the whole encoder. */
export const bertType: ModelType = {
  name: 'bert',
  savedBy: 'BertModel or BertForSequenceClassification',
  prefix: 'bert.',
  inert: [
    'directionality',
    'pooler_fc_size',
    'pooler_num_attention_heads',
    'pooler_num_fc_layers',
    'pooler_size_per_head',
    'pooler_type',
  ],
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
    hiddenAct: activation(config, 'hidden_act', 'gelu'),
  };
}
