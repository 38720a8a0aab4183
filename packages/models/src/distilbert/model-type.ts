import type { Task } from '@peftjs/core';
import type { Architecture } from '../architecture.js';
import { positiveInteger, refuseUnless, type ConfigFile } from '../transformers/config.js';
import type { ModelType } from '../transformers/model-type.js';
import { distilbert } from './architecture.js';

/** DistilBERT as transformers saves it: `DistilBertModel`, `DistilBertForSequenceClassification` and others. */
export const distilbertType: ModelType = {
  name: 'distilbert',
  savedBy: 'DistilBertModel or DistilBertForSequenceClassification',
  prefix: 'distilbert.',
  architecture,
};

/** What a config.json leaves out is as in distilbert-base-uncased, as transformers has it. Sinusoidal positions are a table too. */
function architecture(config: ConfigFile, task: Task): Architecture {
  refuseUnless(config, 'activation', 'gelu');
  const dim = positiveInteger(config, 'dim', 768);
  return distilbert(
    {
      vocabSize: positiveInteger(config, 'vocab_size', 30_522),
      dim,
      nLayers: positiveInteger(config, 'n_layers', 6, { most: 1000 }),
      nHeads: positiveInteger(config, 'n_heads', 12, { divides: dim }),
      hiddenDim: positiveInteger(config, 'hidden_dim', 3072),
      maxPositionEmbeddings: positiveInteger(config, 'max_position_embeddings', 512),
    },
    task,
  );
}
