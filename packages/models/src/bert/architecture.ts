/**
 * BERT (Devlin et al., 2019): the encoder of encoder/, x_L being what it ends with, and the heads of transformers. Module paths
 * are those of BertForSequenceClassification and BertForTokenClassification.
 *
 *   of a text   tanh(x_L[first token] W_p) W_c
 *   of tokens   x_L W_c
 *   encode      mean over tokens of x_L
 */
import * as tf from '@tensorflow/tfjs';
import { linearSite } from '@peftjs/core';
import type { Task } from '@peftjs/core';
import type { Architecture } from '../architecture.js';
import { encoderNetwork, everyTokenOf, firstTokenOf, type EncoderConfig } from '../encoder/encoder.js';
import { bertLayerNames } from '../encoder/layer.js';
import { headFor, linearHead } from '../head.js';

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
}

/** What RoBERTa and ELECTRA share with BERT: names, and the modules that are adapted unless others are named. */
export const bertFamily = {
  layers: 'encoder.layer',
  names: bertLayerNames,
  defaultTargetModules: ['query', 'value'],
} as const;

const POOLER = 'bert.pooler.dense';

/** The network of a configuration for a task. @throws UnsupportedError for a task that it has no head for. */
export function bert(config: BertConfig, task: Task): Architecture {
  const { hiddenSize } = config;
  const encoder: EncoderConfig = { ...config, ...bertFamily, root: 'bert' };
  const network = encoderNetwork(encoder);
  const first = firstTokenOf(encoder);
  const pooled = linearHead({ path: 'classifier' }, hiddenSize, (scope, inputs) =>
    tf.tanh(scope.linear(POOLER, first(scope, inputs))),
  );
  return headFor<Architecture>(
    'bert',
    {
      'sequence-classification': {
        ...network,
        sites: [...network.sites, linearSite(POOLER, hiddenSize, hiddenSize)],
        head: pooled,
      },
      'token-classification': {
        ...network,
        head: linearHead({ path: 'classifier' }, hiddenSize, everyTokenOf(encoder)),
      },
    },
    task,
  );
}
