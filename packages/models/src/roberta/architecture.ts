/**
 * RoBERTa (Liu et al., 2019): the encoder of encoder/, x_L being what it ends with, whose positions begin after that of padding,
 * and the heads of transformers. Module paths are those of RobertaForSequenceClassification and RobertaForTokenClassification.
 *
 *   of a text   tanh(x_L[first token] W_d) W_o      W_d, W_o: classifier.dense, classifier.out_proj
 *   of tokens   x_L W_c
 *   encode      mean over tokens of x_L
 */
import * as tf from '@tensorflow/tfjs';
import type { Task } from '@peftjs/core';
import type { Architecture } from '../architecture.js';
import { bertFamily, type BertConfig } from '../bert/architecture.js';
import { encoderNetwork, everyTokenOf, firstTokenOf, type EncoderConfig } from '../encoder/encoder.js';
import { denseHead, headFor, linearHead } from '../head.js';

/** The settings of config.json that the network depends on, under their names there. */
export interface RobertaConfig extends BertConfig {
  readonly padTokenId: number;
}

/** The network of a configuration for a task. @throws UnsupportedError for a task that it has no head for. */
export function roberta({ padTokenId, ...config }: RobertaConfig, task: Task): Architecture {
  const encoder: EncoderConfig = { ...config, ...bertFamily, root: 'roberta', firstPosition: padTokenId + 1 };
  const names = { trained: ['classifier'], dense: 'classifier.dense', out: 'classifier.out_proj' };
  const heads = {
    'sequence-classification': denseHead({ ...names, activation: tf.tanh }, config.hiddenSize, firstTokenOf(encoder)),
    'token-classification': linearHead({ path: 'classifier' }, config.hiddenSize, everyTokenOf(encoder)),
  };
  return { ...encoderNetwork(encoder), head: headFor('roberta', heads, task) };
}
