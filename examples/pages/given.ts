// What the lines of a page take for given: a small model, sentences with their class.
import { fromPretrained, type PretrainedModel } from '@peftjs/models';
import { createDataSet, encodeRows, evaluationData, trainingData } from '@peftjs/tasks';
import { bertFolder } from '../../tests/models/bert-tiny.js';

/** A random BERT of three layers, 32 wide. */
export const smallBert = (): Promise<PretrainedModel> => fromPretrained(bertFolder, { numLabels: 2 });

/** Sixteen sentences with their class. */
export const sentences = Array.from({ length: 16 }, (_, row) => ({
  text: `the soup was ${row % 2 === 0 ? 'cold' : 'hot'} on day ${row}`,
  label: row % 2,
}));

/** Those sentences in the tokens of a model: batches to train on, and to measure on. */
export async function batchesFor({ tokenizer }: PretrainedModel) {
  const set = await createDataSet({ name: 'soups', kind: 'classification', classes: ['bad', 'good'], rows: sentences });
  const encoded = encodeRows(set, tokenizer, { maxTokens: 16 });
  return {
    train: trainingData(encoded, { batchSize: 8, seed: 1 }),
    validation: evaluationData(encoded, { batchSize: 4 }),
  };
}
