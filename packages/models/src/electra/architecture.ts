/**
 * ELECTRA (Clark et al., 2020), the discriminator: the encoder of encoder/, x_L being what it ends with, whose tables may be
 * narrower than its layers, and the heads of transformers. Module paths are those of ElectraForSequenceClassification and
 * ElectraForTokenClassification.
 *
 *   of a text   gelu(x_L[first token] W_d) W_o      W_d, W_o: classifier.dense, classifier.out_proj
 *   of tokens   x_L W_c
 *   encode      mean over tokens of x_L
 */
import type { Task } from '@peftjs/core';
import { gelu } from '@peftjs/core/nn';
import type { Architecture } from '../architecture.js';
import { bertFamily, type BertConfig } from '../bert/architecture.js';
import { encoderNetwork, everyTokenOf, firstTokenOf, type EncoderConfig } from '../encoder/encoder.js';
import { denseHead, headFor, linearHead } from '../head.js';

/** The settings of config.json that the network depends on, under their names there. */
export interface ElectraConfig extends BertConfig {
  readonly embeddingSize: number;
}

/** The network of a configuration for a task. @throws UnsupportedError for a task that it has no head for. */
export function electra(config: ElectraConfig, task: Task): Architecture {
  const encoder: EncoderConfig = { ...config, ...bertFamily, root: 'electra' };
  const names = { trained: ['classifier'], dense: 'classifier.dense', out: 'classifier.out_proj' };
  const heads = {
    'sequence-classification': denseHead({ ...names, activation: gelu }, config.hiddenSize, firstTokenOf(encoder)),
    'token-classification': linearHead({ path: 'classifier' }, config.hiddenSize, everyTokenOf(encoder)),
  };
  return { ...encoderNetwork(encoder), head: headFor('electra', heads, task) };
}
