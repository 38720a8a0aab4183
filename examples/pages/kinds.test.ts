// Code blocks of tasks' README and the page on tasks: tagged words, pairs, and texts without labels.
import { writeFile } from 'node:fs/promises';
import { attach, diskStorage, predict, train } from '@peftjs/core';
import { multipleNegativesRanking } from '@peftjs/core/losses';
import { compiled } from '@peftjs/engine';
import { lora } from '@peftjs/lora';
import { fromPretrained } from '@peftjs/models';
import {
  encodeRows,
  encodeTexts,
  evaluationData,
  inputBatches,
  readTask,
  trainingData,
  type DataSet,
} from '@peftjs/tasks';
import { expect, it } from 'vitest';
import { bertFolder } from '../../tests/models/bert-tiny.js';
import { useFolder } from './surroundings.js';

useFolder();
const executor = compiled({ threads: 1 });
const folder = bertFolder;

it('tagged words', async () => {
  const sentences = Array.from({ length: 20 }, (_, row) => `the O\n${row % 2 ? 'library' : 'river'} B-LOC\n${row} O\n`);
  await writeFile('train.conll', sentences.join('\n'));
  // #region tags
  const task = await readTask({ train: 'train.conll', kind: 'token-classification', storage: diskStorage() });
  const tagger = await fromPretrained(folder, { task: 'token-classification', labels: task.classes });

  const encode = (dataSet: DataSet) => encodeRows(dataSet, tagger.tokenizer, { maxTokens: 128 });
  const training = trainingData(encode(task.train), { batchSize: 16, seed: 1 });
  const reported = evaluationData(encode(task.dev), { batchSize: 32 }); // entityF1, tokenAccuracy, f1.LOC, ..
  // #endregion tags
  expect([task.train.rows.length, task.dev.rows.length]).toEqual([18, 2]);
  expect(reported.primaryMetric).toBe('entityF1');
  const { last } = await train(attach(tagger, lora({ r: 2 })), training, { epochs: 1, executor });
  expect(last.step).toBe(2);
});

it('pairs', async () => {
  const rows = Array.from({ length: 30 }, (_, row) => `what is ${row}?\tnumber ${row}`);
  await writeFile('pairs.tsv', `anchor\tpositive\n${rows.join('\n')}`);
  // #region pairs
  const task = await readTask({ train: 'pairs.tsv', storage: diskStorage() }); // columns: anchor, positive and, optionally, negative
  const embedder = await fromPretrained(folder, { task: 'feature-extraction' });
  const encode = (dataSet: DataSet) => encodeRows(dataSet, embedder.tokenizer, { maxTokens: 128 });

  const peft = attach(embedder, lora({ r: 2 }), { seed: 1 });
  await train(peft, trainingData(encode(task.train), { batchSize: 32, seed: 1 }), {
    epochs: 2,
    loss: multipleNegativesRanking({ scale: 20 }), // the default for pairs
    selection: { data: evaluationData(encode(task.dev), { batchSize: 32 }) }, // by nDCG@10
    executor,
  });
  const texts = encodeTexts(['who wrote it?', 'the author'], embedder.tokenizer, { maxTokens: 128 });
  const [question, answer] = await predict(peft, inputBatches(texts, { batchSize: 32 }), { executor });
  // #endregion pairs
  expect([question?.length, answer?.length]).toEqual([32, 32]);
});
