/**
 * RoBERTa (Liu et al., 2019), and XLM-RoBERTa (Conneau et al., 2020) and CamemBERT (Martin et al., 2020), which are
 * RoBERTa trained on other texts: the encoder of encoder.ts, with output x_L and positions that start after the padding
 * ID, and the heads of transformers. Module paths are those of RobertaForSequenceClassification and
 * RobertaForTokenClassification.
 *
 *   of a text   tanh(x_L[first token] W_d) W_o      W_d, W_o: classifier.dense, classifier.out_proj
 *   of tokens   x_L W_c
 *   encode      mean over tokens of x_L
 */
import { linearSite, type Task } from '@peftjs/core/model';
import * as tf from '@tensorflow/tfjs-core';
import type { Tensor } from '@tensorflow/tfjs-core';
import { denseHead, type Architecture, type Dropout } from '../architecture.js';
import { encoderWithHead, type EncoderConfig } from '../encoder.js';
import { positiveInteger, nonNegativeInteger, type ConfigFile, type ModelType } from '../transformers/config.js';
import { bertFamily, bertSettings } from './bert.js';

/** An encoder whose head has dropout. */
export type RobertaConfig = EncoderConfig & Required<Pick<EncoderConfig, 'dropout'>>;

/** The names of the head's modules. */
const NAMES = { trained: ['classifier'], dense: 'classifier.dense', out: 'classifier.out_proj' };

/** Returns the parts of RoBERTa's head of texts. One dropout module is applied twice, so it has two places. */
export function robertaHead(rate: number, activation: (x: Tensor) => Tensor) {
  const dense: Dropout = ['classifier.dropout', rate];
  const out: Dropout = ['classifier.dropout.out_proj', rate];
  return { ...NAMES, activation, dropout: { dense, out } };
}

/** Builds an encoder with RoBERTa's head for a task. @throws UnsupportedError when it has no head for the task. */
export function withRobertaHead(encoder: RobertaConfig, task: Task): Architecture {
  const { root, hiddenSize } = encoder;
  const ofTexts = robertaHead(encoder.dropout.tokens, tf.tanh);
  const pooler = linearSite(`${root}.pooler.dense`, hiddenSize, hiddenSize);
  return {
    ...encoderWithHead(encoder, (...features) => denseHead(ofTexts, ...features), task),
    ...(task === 'feature-extraction' && { pooler }),
  };
}

/**
 * RoBERTa as saved by transformers: `RobertaModel`, `RobertaForSequenceClassification` and any class with the encoder.
 */
export const robertaType = robertaLike('roberta', 'Roberta');

/** XLM-RoBERTa as saved by transformers, including multilingual E5 and BGE-M3. */
export const xlmRobertaType = robertaLike('xlm-roberta', 'XLMRoberta');

/** CamemBERT as saved by transformers. */
export const camembertType = robertaLike('camembert', 'Camembert');

/** Returns a model type with RoBERTa's network and module prefix. */
function robertaLike(name: string, stem: string): ModelType {
  return {
    name,
    savedBy: `${stem}Model or ${stem}ForSequenceClassification`,
    prefix: 'roberta.',
    architecture: (config, task) => withRobertaHead({ ...encoderConfig(config), name }, task),
  };
}

/** Missing settings have the defaults of transformers. */
function encoderConfig(config: ConfigFile): RobertaConfig {
  const hiddenSize = positiveInteger(config, 'hidden_size', 768);
  const settings = bertSettings(config, { hiddenSize, intermediateSize: 3072, numAttentionHeads: 12 });
  const most = settings.maxPositionEmbeddings - 2; // leaves at least one position for a token
  return {
    ...settings,
    ...bertFamily,
    root: 'roberta',
    padTokenId: nonNegativeInteger(config, 'pad_token_id', 1, { most }),
  };
}
