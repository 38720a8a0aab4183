/**
 * RoBERTa (Liu et al., 2019): the encoder of encoder.ts, x_L being what it ends with, whose positions begin after that of padding,
 * and the heads of transformers. Module paths are those of RobertaForSequenceClassification and RobertaForTokenClassification.
 *
 *   of a text   tanh(x_L[first token] W_d) W_o      W_d, W_o: classifier.dense, classifier.out_proj
 *   of tokens   x_L W_c
 *   encode      mean over tokens of x_L
 */
import type { Task } from '@peftjs/core/method';
import * as tf from '@tensorflow/tfjs';
import { denseHead, headFor, linearHead, noHead, type Architecture } from '../architecture.js';
import { encoderNetwork, everyTokenOf, firstTokenOf, type EncoderConfig } from '../encoder.js';
import { positiveInteger, wholeNumber, type ConfigFile, type ModelType } from '../transformers/config.js';
import { bertFamily, bertSettings, type BertConfig } from './bert.js';

/** The settings of config.json that the network depends on, under their names there. */
interface RobertaConfig extends BertConfig {
  readonly padTokenId: number;
}

/** The network of a configuration for a task. @throws UnsupportedError for a task that it has no head for. */
function roberta({ padTokenId, ...config }: RobertaConfig, task: Task): Architecture {
  const encoder: EncoderConfig = { ...config, ...bertFamily, root: 'roberta', firstPosition: padTokenId + 1 };
  const names = { trained: ['classifier'], dense: 'classifier.dense', out: 'classifier.out_proj' };
  const heads = {
    'sequence-classification': denseHead({ ...names, activation: tf.tanh }, config.hiddenSize, firstTokenOf(encoder)),
    'token-classification': linearHead({ path: 'classifier' }, config.hiddenSize, everyTokenOf(encoder)),
    'feature-extraction': noHead(everyTokenOf(encoder)),
  };
  return { ...encoderNetwork(encoder), head: headFor('roberta', heads, task) };
}

/** RoBERTa as transformers saves it: `RobertaModel`, `RobertaForSequenceClassification` and what else holds the encoder. */
export const robertaType: ModelType = {
  name: 'roberta',
  savedBy: 'RobertaModel or RobertaForSequenceClassification',
  prefix: 'roberta.',
  architecture,
};

/** What a config.json leaves out is as transformers has it. */
function architecture(config: ConfigFile, task: Task): Architecture {
  const hiddenSize = positiveInteger(config, 'hidden_size', 768);
  const settings = bertSettings(config, { hiddenSize, intermediateSize: 3072, numAttentionHeads: 12 });
  const most = settings.maxPositionEmbeddings - 2; // a row of the table of positions is left for a token
  return roberta({ ...settings, padTokenId: wholeNumber(config, 'pad_token_id', 1, { most }) }, task);
}
