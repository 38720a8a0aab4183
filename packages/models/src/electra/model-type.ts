import type { Task } from '@peftjs/core';
import type { Architecture } from '../architecture.js';
import { bertSettings } from '../bert/model-type.js';
import { positiveInteger, type ConfigFile } from '../transformers/config.js';
import type { ModelType } from '../transformers/model-type.js';
import { electra } from './architecture.js';

/** ELECTRA's discriminator as transformers saves it: `ElectraForPreTraining`, `ElectraForSequenceClassification` and others. */
export const electraType: ModelType = {
  name: 'electra',
  savedBy: 'ElectraModel or ElectraForSequenceClassification',
  prefix: 'electra.',
  architecture,
};

/** What a config.json leaves out is as in electra-small-discriminator, as transformers has it. */
function architecture(config: ConfigFile, task: Task): Architecture {
  const hiddenSize = positiveInteger(config, 'hidden_size', 256);
  const settings = bertSettings(config, { hiddenSize, intermediateSize: 1024, numAttentionHeads: 4 });
  return electra({ ...settings, embeddingSize: positiveInteger(config, 'embedding_size', 128) }, task);
}
