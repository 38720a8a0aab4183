import { attach, predict, train, type Executor, type Model, type TrainOptions, type TrainingData } from '@peftjs/core';
import type { ConfiguredMethod } from '@peftjs/core/method';
import type { TrainingSnapshot } from '@peftjs/core/runtime';
import { readSafetensors, writeSafetensors } from '@peftjs/safetensors';
import { head } from '@peftjs/baselines';
import { referenceExecutor } from '@peftjs/conformance';
import { compiled } from '@peftjs/engine';
import { lora } from '@peftjs/lora';
import { fromPretrained } from '@peftjs/models';
import { createDataSet, encodeRows, evaluationData, trainingData } from '@peftjs/tasks';
import { describe, expect, it } from 'vitest';
import { bertFiles, bertInMemory } from './bert-tiny.js';
import { reviews } from './reviews.js';
import { batchOf, decoders, headsOf, load, networks, tiny, type Changes, type Network } from './tiny.js';

/* A training of the head alone computes the features of a text once, and has the results of one that does not. */

/** Counts the runs of programs that read a layer of the encoder. */
function counting(executor: Executor): { executor: Executor; encoderRuns: () => number } {
  let runs = 0;
  return {
    encoderRuns: () => runs,
    executor: {
      ...executor,
      async compile(fn, inputs, constants) {
        const made = await executor.compile(fn, inputs, constants);
        const reads = Object.keys(inputs).some((name) => name.includes('encoder.layer.0'));
        return {
          run(values) {
            if (reads) runs++;
            return made.run(values);
          },
          compileMs: made.compileMs,
          dispose: () => made.dispose(),
        };
      },
    },
  };
}

const classifier = await fromPretrained('bert', { storage: bertInMemory(), numLabels: 2 });
const regressor = await fromPretrained('bert', { storage: bertInMemory(), numLabels: 1 });
const { rows: texts } = await reviews(20);
const graded = await createDataSet({
  ...{ name: 'lengths', kind: 'regression', classes: [] },
  rows: texts.map(({ text }) => ({ text, label: text.length / 50 })),
});
const batches = { batchSize: 8, seed: 1 };
const tasks = {
  classification: { model: classifier, data: await reviews(20) },
  regression: { model: regressor, data: graded },
};

/** The data of a task: 12 rows in 2 batches to train on, 8 rows in 1 batch to select on. */
function dataOf(task: keyof typeof tasks) {
  const { model, data } = tasks[task];
  const rows = encodeRows(data, model.tokenizer, { maxTokens: 24 });
  const part = (from: number, to: number) => ({ ...rows, rows: rows.rows.slice(from, to) });
  return { training: trainingData(part(0, 12), batches), selection: evaluationData(part(12, 20), batches) };
}

/** The same model in one part. */
function whole({ split: _, ...model }: Model): Model {
  return model;
}

interface Training {
  readonly model: Model;
  readonly executor: Executor;
  readonly method?: ConfiguredMethod;
  readonly data: TrainingData;
}

/** Trains a model; returns what can be seen of it, and the number of times that the encoder ran. */
async function trained({ model, method = head(), data, ...given }: Training, options: Partial<TrainOptions> = {}) {
  const { executor, encoderRuns } = counting(given.executor);
  const seen: number[] = [];
  const peft = attach(model, method, { seed: 1 });
  const { selected, stoppedEarly } = await train(peft, data, {
    ...{ executor, epochs: 4, learningRate: 0.05 },
    onStep: ({ loss }) => seen.push(loss),
    onEvaluation: ({ metrics }) => seen.push(...Object.values(metrics)),
    ...options,
  });
  const runs = encoderRuns();
  const outputs = await predict(peft, data.epoch(0), { executor });
  return {
    steps: { selected: selected.step, stoppedEarly },
    numbers: [...seen, ...outputs.flatMap((row) => [...row])],
    runs,
  };
}

function expectClose(actual: readonly number[], expected: readonly number[]): void {
  expect(actual).toHaveLength(expected.length);
  expect(Math.max(...actual.map((value, at) => Math.abs(value - (expected[at] as number))))).toBeLessThan(1e-6);
}

const executors = { 'the compiled engine': compiled({ threads: 1 }), 'the reference': await referenceExecutor() };

describe.each(Object.entries(executors))('a training of the head alone on %s', (_, executor) => {
  it.each(['classification', 'regression'] as const)(
    'runs the encoder once per text, with the results of the whole model: %s',
    async (task) => {
      const { training: data, selection } = dataOf(task);
      const options = { epochs: 6, selection: { data: selection }, earlyStopping: { patience: 2 } };
      const { model } = tasks[task];
      const split = await trained({ model, executor, data }, options);
      const expected = await trained({ model: whole(model), executor, data }, options);
      expectClose(split.numbers, expected.numbers);
      expect(split.steps).toEqual(expected.steps);
      expect(split.runs).toBe(2 + 1); // batches of an epoch, and of the selection data
      expect(expected.runs).toBeGreaterThan(2 * split.runs);
    },
  );
});

it('trains the head alone on texts of as many tokens as the network is wide', async () => {
  const { model, data } = tasks.classification;
  const width = model.sites.find(({ kind }) => kind === 'embedding')?.outFeatures ?? NaN;
  const long = { ...data, rows: data.rows.map((row) => ({ ...row, text: `${row.text} `.repeat(9) })) };
  const full = trainingData(encodeRows(long, model.tokenizer, { maxTokens: width }), batches);
  expect(full.epoch(0)[0]?.inputs.inputIds?.shape[1]).toBe(width);
  const executor = executors['the compiled engine'];
  const split = await trained({ model, executor, data: full }, {});
  expectClose(split.numbers, (await trained({ model: whole(model), executor, data: full }, {})).numbers);
});

const ofTexts = [...networks, ...decoders].filter((network) => headsOf(tiny(network)).includes('classes'));
/** ModernBERT's head starts with modules that are frozen if the checkpoint has them, and trained otherwise. */
const withoutHead: Changes = {
  config: { architectures: ['ModernBertModel'] },
  rename: (key) => (/^(head|classifier)\./.test(key) ? undefined : key.replace(/^model\./, '')),
};

describe('a training of the head alone, of any network', () => {
  it.each<[Network, Changes?]>([...ofTexts.map((network) => [network] as [Network]), ['modernbert', withoutHead]])(
    'runs the encoder once per text, with the results of the whole model: %s',
    async (network, changes) => {
      const executor = executors['the reference'];
      const from = tiny(network);
      const data: TrainingData = {
        ...{ kind: 'classification', batchesPerEpoch: 1 },
        epoch: () => [batchOf(from, 1)],
      };
      const model = await load(from, 'classes', { numLabels: 3 }, changes);
      const [split, expected] = [
        await trained({ model, executor, data }),
        await trained({ model: whole(model), executor, data }),
      ];
      expectClose(split.numbers, expected.numbers);
      expect(model.split).toBeDefined();
    },
  );
});

describe('a training of the head alone', () => {
  const executor = executors['the compiled engine'];
  const { training: data } = dataOf('classification');

  it('resumes from a snapshot of the whole model, and the other way round', async () => {
    const models = [classifier, whole(classifier)];
    const { numbers: expected } = await trained({ model: classifier, executor, data });
    for (const [at, model] of models.entries()) {
      const snapshots: TrainingSnapshot[] = [];
      await trained({ model, executor, data }, { saveEvery: 3, onSnapshot: (saved) => snapshots.push(saved) });
      const resume = snapshots[0] ?? expect.fail('nothing saved');
      const { numbers } = await trained({ model: models[1 - at] ?? model, executor, data }, { resume });
      expectClose(numbers, expected.slice(resume.step));
    }
  });

  it('resumes to the same bits, from whichever epoch', async () => {
    const rows = encodeRows(await reviews(12), classifier.tokenizer, { maxTokens: 64 });
    const batchOf = (from: number) =>
      trainingData({ ...rows, rows: [...rows.rows, ...rows.rows].slice(from, from + 6) }, batches).epoch(0);
    const mixed: TrainingData = {
      ...{ kind: 'classification', batchesPerEpoch: 2 },
      epoch: (index) => [...batchOf(2 * index), ...batchOf(2 * index + 6)], // padded to other lengths in each
    };
    const snapshots: TrainingSnapshot[] = [];
    const training = { model: classifier, executor, data: mixed };
    const onSnapshot = (saved: TrainingSnapshot) => snapshots.push(saved);
    const { numbers } = await trained(training, { saveEvery: 3, onSnapshot });
    expect(snapshots.map(({ step }) => step)).toEqual([3, 6]);
    for (const resume of snapshots) {
      expect((await trained(training, { resume })).numbers).toEqual(numbers.slice(resume.step));
    }
  });

  it('stops before it has computed all features, when it is told to', async () => {
    const counted = counting(executor);
    const stop = new AbortController();
    const onStep = () => stop.abort(new Error('stopped'));
    const training = { model: classifier, executor: counted.executor, data };
    await expect(trained(training, { signal: stop.signal, onStep })).rejects.toThrow('stopped');
    expect(counted.encoderRuns()).toBe(1);
  });

  it('knows a text by its tokens: rows of a number may have other texts in the next epoch', async () => {
    const [one, other] = data.epoch(0);
    if (one === undefined || other === undefined) expect.fail('two batches');
    const changing: TrainingData = {
      ...{ kind: 'classification', batchesPerEpoch: 1 },
      epoch: (index) => [{ ...(index === 0 ? one : other), rows: one.rows.slice(0, other.rows.length) }],
    };
    const split = await trained({ model: classifier, executor, data: changing });
    const expected = await trained({ model: whole(classifier), executor, data: changing });
    expectClose(split.numbers, expected.numbers);
    expect(split.runs).toBe(2);
  });

  const weights = [...readSafetensors(bertFiles['model.safetensors'] ?? expect.fail('no weights'))];
  const withoutPooler = writeSafetensors(new Map(weights.filter(([name]) => !/pooler|classifier/.test(name))));
  const newPooler = () => fromPretrained('bert', { storage: bertInMemory({ 'model.safetensors': withoutPooler }) });
  it.each<[string, () => Partial<Training> | Promise<Partial<Training>>, Partial<TrainOptions>?]>([
    ['an adapter changes the encoder', () => ({ method: lora({ r: 2 }) })],
    ['a module of the encoder is trained in full', () => ({ method: head({ modulesToSave: ['pooler'] }) })],
    ['the encoder has dropout', () => ({}), { dropout: 'config' }],
    ['the pooler is trained with the head', async () => ({ model: await newPooler() })],
    [
      'the forward pass is wrapped',
      () => ({ model: { ...classifier, forward: (...of) => classifier.forward(...of).add(1) } }),
    ],
  ])('runs the encoder in every step if %s', async (_, changes, options) => {
    const { runs } = await trained({ model: classifier, executor, data, ...(await changes()) }, options);
    expect(runs).toBe(8); // of 4 epochs
  });

  it('is refused if the head is frozen or missing', async () => {
    const options = { executor, epochs: 1 };
    const frozen = attach(classifier, head(), { trainHead: false });
    await expect(train(frozen, data, options)).rejects.toThrow(/trains nothing of .*: its head is frozen/);
    const without = attach({ ...classifier, head: [] }, head());
    await expect(train(without, data, options)).rejects.toThrow(/trains nothing of .*: it has no head/);
  });
});
