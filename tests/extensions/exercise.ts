/* Trains with all extensions of the package and reports numbers: in this process, or in one of a project elsewhere. */
import { activeAdapter, attach, memoryStorage, predict, train, type Executor, type TrainOptions } from '@peftjs/core';
import type { HostTensors } from '@peftjs/core/method';
import { readSnapshot, writeSnapshot, type TrainingSnapshot } from '@peftjs/core/runtime';
import { compiled, eager } from '@peftjs/engine';
import { lora } from '@peftjs/lora';
import { fromPretrained } from '@peftjs/models';
import { writeSafetensors, type StoredTensor } from '@peftjs/safetensors';
import { encodeRows, readTask, trainingData } from '@peftjs/tasks';
import {
  colonReader,
  focalLoss,
  halving,
  kernels,
  signSgd,
  softBagFormat,
  softBagType,
  vocabulary,
} from './theirs/index.js';

const words = [1, 0, 0, 2, -3, 3, 0.5, -1]; // [4, 2]
const mix = [1, 3, 2, 4]; // [in, out]
const bias = [0.5, -0.5];

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const f32 = (shape: readonly number[], data: readonly number[]): StoredTensor => ({
  dtype: 'F32',
  shape,
  data: Float32Array.from(data),
});

const storage = memoryStorage(
  new Map([
    ['bag/config.json', bytes(JSON.stringify({ model_type: 'soft-bag', width: 2, vocab_size: 4 }))],
    ['bag/tokenizer.json', bytes(JSON.stringify(vocabulary))],
    [
      'bag/model.safetensors',
      writeSafetensors(
        new Map([
          ['bag.words.weight', f32([4, 2], words)],
          ['bag.mix.weight', f32([2, 2], [1, 2, 3, 4])], // torch's [out, in]
          ['bag.mix.bias', f32([2], bias)],
        ]),
        { format: 'pt' },
      ),
    ],
    ['own/soft-bag.json', bytes(JSON.stringify({ words, mix, bias }))],
    ['train.colon', bytes('yes: a b\nno: c\nyes: b\nno: c d d\nyes: a\nno: d c\nyes: b a a\nno: c c\n')],
    ['dev.colon', bytes('yes: b b\nno: d\n')],
  ]),
);

/** The results of a run. */
export interface Exercised {
  /** The features of the text 'a b': from the transformers folder, then from the other one. */
  readonly features: readonly (readonly number[])[];
  /** Logits of the training rows before the first step, and their labels. */
  readonly logits: readonly (readonly number[])[];
  readonly labels: readonly number[];
  /** The loss of each step. */
  readonly losses: readonly number[];
  readonly rates: readonly number[];
  /** The change of each number of the head and of B by the first step. */
  readonly firstMoves: readonly number[];
  /** The largest difference between the final values of the compiled engine and of plain TensorFlow.js. */
  readonly fromEager: number;
  /** The same between a run resumed from a snapshot and the whole run. */
  readonly fromResumed: number;
  /** The names in the snapshot. */
  readonly named: TrainingSnapshot['training'];
  readonly refusals: Readonly<Record<string, string>>;
}

/** Runs everything. */
export async function exercise(): Promise<Exercised> {
  const executor = compiled({ threads: 1, kernels });
  const plain = await eager({ backend: 'cpu' });
  const model = await fromPretrained('bag', { storage, modelTypes: [softBagType] });
  const other = await fromPretrained('own', { storage, formats: [softBagFormat] });
  const task = await readTask({
    train: 'train.colon',
    dev: 'dev.colon',
    kind: 'classification',
    storage,
    readers: [colonReader],
  });
  const encoded = encodeRows(task.train, model.tokenizer, { maxTokens: model.maxTokens });
  const data = trainingData(encoded, { batchSize: 8, seed: 1 }); // one batch per epoch
  const [batch] = data.epoch(0);
  if (!batch) throw new RangeError('no batch');

  const attached = () => attach(model, lora({ r: 1, targetModules: ['mix'] }), { seed: 1 });
  const options: Omit<TrainOptions, 'executor'> = {
    epochs: 6,
    learningRate: 0.25,
    warmupRatio: 0,
    clipNorm: null,
    loss: focalLoss(),
    optimizer: signSgd(),
    schedule: halving(),
  };
  const losses: number[] = [];
  const rates: number[] = [];
  const snapshots: TrainingSnapshot[] = [];
  const run = async (on: Executor, own: Partial<TrainOptions> = {}) =>
    (await train(attached(), data, { ...options, executor: on, ...own })).last.values;
  const whole = await run(executor, {
    saveEvery: 1,
    onSnapshot: (snapshot) => void snapshots.push(snapshot),
    onStep({ loss, learningRate }) {
      losses.push(loss);
      rates.push(learningRate);
    },
  });
  const [first, second] = snapshots;
  if (!first || !second) throw new RangeError('no snapshots');
  const resume = await readSnapshot(writeSnapshot(second));
  const before = activeAdapter(attached()).values;
  const rowsOf = async (of: typeof model) => {
    const outputs = await predict({ ...of, forward: of.encode }, [batch], { executor });
    return [...(outputs[batch.rows.indexOf(0)] ?? [])]; // row 0 is 'a b'
  };
  const refusal = (running: Promise<unknown>): Promise<string> =>
    running.then(
      () => 'none',
      (error: unknown) => (error as Error).message,
    );
  return {
    features: [await rowsOf(model), await rowsOf(other)],
    logits: (await predict(attached(), [batch], { executor })).map((row) => [...row]),
    labels: [...batch.labels.data],
    losses,
    rates,
    firstMoves: moves(before, first.adapter),
    fromEager: distance(whole, await run(plain)),
    fromResumed: distance(whole, await run(executor, { resume })),
    named: resume.training,
    refusals: {
      loss: await refusal(run(executor, { resume, loss: focalLoss({ gamma: 1 }) })),
      optimizer: await refusal(run(executor, { resume, optimizer: signSgd({ momentum: 0.5 }) })),
      schedule: await refusal(run(executor, { resume, schedule: 'linear' })),
      kernel: await refusal(run(compiled({ threads: 1 }))),
      modelType: await refusal(fromPretrained('bag', { storage })),
      reader: await refusal(readTask({ train: 'train.colon', dev: 'dev.colon', storage })),
    },
  };
}

function moves(before: HostTensors, after: HostTensors): number[] {
  return Object.entries(after).flatMap(([name, { data }]) =>
    name.endsWith('loraA') ? [] : [...data].map((value, place) => value - (before[name]?.data[place] ?? NaN)),
  );
}

function distance(a: HostTensors, b: HostTensors): number {
  const differences = Object.entries(a).flatMap(([name, { data }]) =>
    [...data].map((value, place) => Math.abs(value - (b[name]?.data[place] ?? NaN))),
  );
  return Math.max(...differences);
}
