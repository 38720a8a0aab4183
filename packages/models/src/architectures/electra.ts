/**
 * ELECTRA's discriminator (Clark et al., 2020): the encoder of encoder.ts, with output x_L and embedding tables that
 * may be narrower than its layers, and the heads of transformers. Module paths are those of
 * ElectraForSequenceClassification and ElectraForTokenClassification.
 *
 *   of a text   gelu(x_L[first token] W_d) W_o      W_d, W_o: classifier.dense, classifier.out_proj
 *   of tokens   x_L W_c
 *   encode      mean over tokens of x_L
 */
import { gelu } from '@peftjs/core/nn';
import { denseHead } from '../architecture.js';
import { encoderWithHead } from '../encoder.js';
import { positiveInteger, type ConfigFile, type ModelType } from '../transformers/config.js';
import { bertFamily, bertSettings } from './bert.js';
import { robertaHead } from './roberta.js';

/**
 * ELECTRA's discriminator as saved by transformers: `ElectraForPreTraining`, `ElectraForSequenceClassification` and
 * others.
 */
export const electraType: ModelType = {
  name: 'electra',
  savedBy: 'ElectraModel or ElectraForSequenceClassification',
  prefix: 'electra.',
  ignoredSettings: ['generator_size', 'summary_activation', 'summary_last_dropout', 'summary_type', 'summary_use_proj'],
  architecture(config, task) {
    const encoder = encoderConfig(config);
    const ofTexts = robertaHead(encoder.dropout.tokens, gelu);
    return encoderWithHead(encoder, (...features) => denseHead(ofTexts, ...features), task);
  },
};

/** Missing settings default to those of electra-small-discriminator, as in transformers. */
function encoderConfig(config: ConfigFile) {
  const hiddenSize = positiveInteger(config, 'hidden_size', 256);
  return {
    ...bertSettings(config, { hiddenSize, intermediateSize: 1024, numAttentionHeads: 4 }),
    ...bertFamily,
    root: 'electra',
    embeddingSize: positiveInteger(config, 'embedding_size', 128),
  };
}
