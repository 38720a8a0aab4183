import type { Task } from '@peftjs/core';
import type { Architecture } from '../architecture.js';
import { bertSettings } from '../bert/model-type.js';
import { positiveInteger, wholeNumber, type ConfigFile } from '../transformers/config.js';
import type { ModelType } from '../transformers/model-type.js';
import { roberta } from './architecture.js';

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
