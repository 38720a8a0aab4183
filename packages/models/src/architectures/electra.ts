/**
 * ELECTRA's discriminator (Clark et al., 2020): the encoder of encoder.ts, with output x_L and embedding tables that
 * may be narrower than its layers, and the heads of transformers. Module paths are those of
 * ElectraForSequenceClassification and ElectraForTokenClassification.
 *
 *   of a text   gelu(x_L[first token] W_d) W_o      W_d, W_o: classifier.dense, classifier.out_proj
 *   of tokens   x_L W_c
 *   encode      mean over tokens of x_L
 */
import type { Task } from '@peftjs/core/method';
import { gelu } from '@peftjs/core/nn';
import { denseHead, headFor, linearHead, noHead, type Architecture } from '../architecture.js';
import { encoderNetwork, everyTokenOf, firstTokenOf, type EncoderConfig } from '../encoder.js';
import { positiveInteger, type ConfigFile, type ModelType } from '../transformers/config.js';
import { bertFamily, bertSettings, type BertConfig } from './bert.js';

/** The settings of config.json that the network depends on, with their names in camel case. */
interface ElectraConfig extends BertConfig {
  readonly embeddingSize: number;
}

/** Builds the network for a task. @throws UnsupportedError when it has no head for the task. */
function electra(config: ElectraConfig, task: Task): Architecture {
  const encoder: EncoderConfig = { ...config, ...bertFamily, root: 'electra' };
  const names = { trained: ['classifier'], dense: 'classifier.dense', out: 'classifier.out_proj' };
  const heads = {
    'sequence-classification': denseHead({ ...names, activation: gelu }, config.hiddenSize, firstTokenOf(encoder)),
    'token-classification': linearHead({ path: 'classifier' }, config.hiddenSize, everyTokenOf(encoder)),
    'feature-extraction': noHead(everyTokenOf(encoder)),
  };
  return { ...encoderNetwork(encoder), head: headFor('electra', heads, task) };
}

/**
 * ELECTRA's discriminator as saved by transformers: `ElectraForPreTraining`, `ElectraForSequenceClassification` and
 * others.
 */
export const electraType: ModelType = {
  name: 'electra',
  savedBy: 'ElectraModel or ElectraForSequenceClassification',
  prefix: 'electra.',
  ignoredSettings: ['generator_size', 'summary_activation', 'summary_last_dropout', 'summary_type', 'summary_use_proj'],
  architecture,
};

/** Missing settings default to those of electra-small-discriminator, as in transformers. */
function architecture(config: ConfigFile, task: Task): Architecture {
  const hiddenSize = positiveInteger(config, 'hidden_size', 256);
  const settings = bertSettings(config, { hiddenSize, intermediateSize: 1024, numAttentionHeads: 4 });
  return electra({ ...settings, embeddingSize: positiveInteger(config, 'embedding_size', 128) }, task);
}
