import {
  activeAdapter,
  activeRanks,
  evaluate,
  type EvaluationData,
  type Executor,
  type PeftModel,
  type TrainingData,
} from '@peftjs/core';
import { replaceAdapter, storedParameters } from '@peftjs/core/model';
import { readSnapshot, writeSnapshot, type StepEvent } from '@peftjs/core/runtime';
import { referenceExecutor, toyEvaluationData, toyTrainingData } from '@peftjs/conformance';
import {
  sparsify,
  sparsifyingLevels,
  type SoraConfig,
  type SparsifyData,
  type SparsifyOptions,
  type SparsifySnapshot,
  type StageRecord,
} from '@peftjs/sora';
import { describe, expect, it } from 'vitest';
import { attached } from './harness.js';

const data: SparsifyData = {
  train: toyTrainingData(),
  trainSubset: toyEvaluationData(1), // the training rows themselves
  validation: toyEvaluationData(2),
};

const levels = [0, 0.004, 0.016];

/** Three stages of xi on the toy task: four epochs of four steps, then two, and two. */
const sparsified = async (
  peft: PeftModel<SoraConfig>,
  options: Partial<SparsifyOptions> = {},
  from = data,
): Promise<StageRecord[]> =>
  sparsify(peft, from, {
    executor: await referenceExecutor(),
    levels,
    epochs: 4,
    stageEpochs: 2,
    learningRate: 0.02,
    warmupRatio: 0.25,
    ...options,
  });

const fresh = (options: Partial<SoraConfig> = {}): PeftModel<SoraConfig> =>
  attached({ r: 6, thresholdMode: 'constant', ...options });

const total = (ranks: Readonly<Record<string, number>>): number =>
  Object.values(ranks).reduce((sum, rank) => sum + rank, 0);

describe('the stages', () => {
  it('trap 12: restart the learning rate, its warm-up and the optimizer, each with its own threshold', async () => {
    const stages: StepEvent[][] = [[], [], []];
    const snapshots: SparsifySnapshot[] = [];
    await sparsified(fresh(), {
      onStep: (event, stage) => stages[stage]?.push(event),
      saveEvery: 1,
      onSnapshot: (snapshot) => void snapshots.push(snapshot),
    });
    expect(stages.map((steps) => steps.length)).toEqual([16, 8, 8]);
    for (const [stage, steps] of stages.entries()) {
      const rates = steps.map(({ learningRate }) => learningRate);
      const warmup = steps.length / 4;
      expect(rates[0]).toBeCloseTo(0.02 / (warmup + 1), 12);
      expect(rates[warmup]).toBe(0.02);
      expect(rates.every((rate) => rate > 0)).toBe(true);
      expect(steps.map(({ step }) => step)).toEqual(steps.map((_, index) => index + 1));
      expect(new Set(steps.map(({ scalars }) => scalars.threshold))).toEqual(new Set([levels[stage]]));
    }
    // A new optimizer: after the first step the first moment is a tenth of that step's gradient, clipped to norm 1.
    const first = snapshots.find(({ stages: done, training }) => done.length === 2 && training.step === 1);
    const moments = Object.values(first?.training.slots['moment1'] ?? expect.fail('no snapshot'));
    expect(Math.hypot(...moments.flatMap(({ data: values }) => [...values]))).toBeLessThan(0.1 + 1e-6);
  });

  it('trap 12: keep training A and B; the released code has a rate of zero there', async () => {
    const peft = fresh();
    const ends: (Float32Array | undefined)[] = [];
    await sparsified(peft, {
      onStage: () => void ends.push(activeAdapter(peft).values['encoder.layer.0.ffn.in.loraA']?.data as Float32Array),
    });
    expect(ends).toHaveLength(3);
    expect(ends[1]).not.toEqual(ends[0]);
    expect(ends[2]).not.toEqual(ends[1]);
  });

  it.each(['linear', 'log_linear', 'exp_linear'] as const)(
    'trap 12: use the levels of every spacing: %s',
    async (kind) => {
      const spaced = sparsifyingLevels(kind, 1e-3, 8e-3, 3);
      const records = await sparsified(fresh(), { levels: spaced, epochs: 1, stageEpochs: 1 });
      expect(records.map(({ level }) => level)).toEqual(spaced);
    },
  );

  it("use lambda as their level in mode 'lr'", async () => {
    const thresholds: number[] = [];
    await sparsified(fresh({ thresholdMode: 'lr' }), {
      levels: [0.5, 1],
      epochs: 1,
      stageEpochs: 1,
      warmupRatio: 0,
      learningRates: { gate: 0.1 },
      onStep({ scalars, step }) {
        if (step === 1) thresholds.push(scalars.threshold ?? NaN);
      },
    });
    expect(thresholds).toEqual([0.05, 0.1]);
  });

  it('select the best checkpoint of the first on the validation data, and keep the last of every other', async () => {
    let judged = 0;
    const validation: EvaluationData = { ...data.validation, score: () => ({ accuracy: 1 - 0.1 * judged++ }) };
    const selecting = fresh({ sparseLambda: 0 });
    const records = await sparsified(
      selecting,
      { levels: [0.012, 0.012], evaluations: 4, finalRatio: 0.7 },
      {
        ...data,
        validation,
      },
    );
    // Four checkpoints of stage 0 and two measurements; the first checkpoint is the best, with more ranks than later
    // ones.
    expect(judged).toBe(4 + 2);
    const plain = fresh();
    const [last] = await sparsified(plain, { levels: [0.012], evaluations: 1, finalRatio: 0.7 });
    expect(total(records[0]?.ranks ?? {})).toBeGreaterThan(total(last?.ranks ?? {}));
  });

  it('continue through the epochs of the data', async () => {
    const epochs: number[] = [];
    const train: TrainingData = {
      ...data.train,
      epoch(index) {
        epochs.push(index);
        return data.train.epoch(index);
      },
    };
    await sparsified(fresh(), {}, { ...data, train });
    expect(epochs).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
  });

  it('drop different features in every step of every stage', async () => {
    const reference = await referenceExecutor();
    const drawn: string[] = [];
    const executor: Executor = {
      ...(reference as Executor),
      upload(tensor) {
        // Only the dropout's integers have this shape.
        if (tensor.shape.join() === '8,4') drawn.push(tensor.data.join());
        return reference.upload(tensor);
      },
    };
    const peft = fresh({ loraDropout: 0.1, targetModules: ['query'] });
    await sparsified(peft, { executor, epochs: 1, stageEpochs: 2, gradientAccumulationSteps: 2 });
    expect(drawn).toHaveLength((2 + 4 + 4) * 2 * 2); // steps, batches and modules
    expect(new Set(drawn).size).toBe(drawn.length);
  });

  it('last 15 epochs each by default, as in the released code', async () => {
    const epochs: number[] = [];
    const train: TrainingData = {
      kind: 'classification',
      batchesPerEpoch: 1,
      epoch(index) {
        epochs.push(index);
        return data.train.epoch(0).slice(0, 1);
      },
    };
    const executor = await referenceExecutor();
    await sparsify(fresh(), { ...data, train }, { executor, levels: [0, 0.001], epochs: 4, learningRate: 0.01 });
    expect(epochs).toHaveLength(4 + 15);
  });
});

describe('the records', () => {
  it('describe the model after each stage and how much it retains from the first', async () => {
    const peft = fresh();
    const measured: {
      train: number;
      validation: number;
      stored: number;
      mean: number;
      ranks: Record<string, number>;
    }[] = [];
    const told: StageRecord[] = [];
    const executor = await referenceExecutor();
    const records = await sparsified(peft, {
      async onStage(record, { meanParameters }) {
        told.push(record);
        const { layers, values } = activeAdapter(peft);
        measured.push({
          train: (await evaluate(peft, data.trainSubset, { executor })).accuracy ?? NaN,
          validation: (await evaluate(peft, data.validation, { executor })).accuracy ?? NaN,
          stored: storedParameters(layers, values),
          mean: meanParameters,
          ranks: activeRanks(layers, values),
        });
      },
    });
    expect(told).toEqual(records);
    const [first] = measured;
    for (const [stage, record] of records.entries()) {
      const now = measured[stage] ?? expect.fail('a stage was not told of');
      expect(record).toEqual({
        stage,
        level: levels[stage],
        gates: 60,
        ranks: now.ranks,
        sparsity: 1 - total(now.ranks) / 60,
        storedParameters: now.stored,
        meanParameters: now.mean,
        trainMetric: now.train,
        validationMetric: now.validation,
        reportedMetric: now.validation,
        memorization: (100 * now.train) / (first?.train ?? NaN),
        generalization: (100 * now.validation) / (first?.validation ?? NaN),
      });
    }
    expect(records.map(({ memorization, generalization }) => [memorization, generalization])[0]).toEqual([100, 100]);
    const sparsity = records.map((record) => record.sparsity);
    expect(sparsity[0]).toBe(0);
    expect(sparsity[2]).toBeGreaterThan(sparsity[1] as number);
  });

  it('count removed gates too', async () => {
    const peft = fresh({ compactEvery: 2 });
    const records = await sparsified(peft, { levels: [0, 0.02, 0.04] });
    const held = Object.values(activeAdapter(peft).layers).map(({ params }) => params.gate?.initial.data.length ?? 0);
    expect(held.reduce((sum, count) => sum + count, 0)).toBeLessThan(60);
    expect(records.map(({ gates }) => gates)).toEqual([60, 60, 60]);
    expect(records[2]?.sparsity).toBe(1 - total(records[2]?.ranks ?? {}) / 60);
  });

  it('measure generalization on separate rows, if there are any', async () => {
    const reported = toyEvaluationData(3);
    const peft = fresh();
    const executor = await referenceExecutor();
    const validation: EvaluationData = { ...data.validation, score: () => ({ accuracy: 0.5 }) };
    const own: number[] = [];
    const records = await sparsified(
      peft,
      { onStage: async () => void own.push((await evaluate(peft, reported, { executor })).accuracy ?? NaN) },
      { ...data, validation, reported },
    );
    expect(records.map(({ validationMetric }) => validationMetric)).toEqual([0.5, 0.5, 0.5]);
    expect(records.map(({ reportedMetric }) => reportedMetric)).toEqual(own);
    expect(records[2]?.generalization).toBe((100 * (own[2] ?? NaN)) / (own[0] ?? NaN));
    expect(new Set(own).size).toBeGreaterThan(1);
  });

  it('fall below 100 also when a lower-is-better metric rises', async () => {
    let judged = 0;
    const perplexity = (rows: EvaluationData): EvaluationData => ({
      ...rows,
      primaryMetric: 'perplexity',
      lowerIsBetter: true,
      score: () => ({ perplexity: 2 + judged++ }), // 3 and 4 after stage 0, 5 and 6 after stage 1
    });
    const records = await sparsified(
      fresh(),
      { levels: [0, 0], epochs: 1, stageEpochs: 1, evaluations: 1 },
      { ...data, trainSubset: perplexity(data.trainSubset), validation: perplexity(data.validation) },
    );
    expect(records.map(({ memorization, generalization }) => [memorization, generalization])).toEqual([
      [100, 100],
      [60, (100 * 4) / 6],
    ]);
  });

  it('have no comparison if the first metric is zero', async () => {
    const hopeless: EvaluationData = { ...data.validation, score: () => ({ accuracy: 0 }) };
    const [record] = await sparsified(fresh(), { levels: [0] }, { ...data, validation: hopeless });
    expect([record?.generalization, record?.memorization]).toEqual([null, 100]);
  });

  it('need the primary metric', async () => {
    const trainSubset: EvaluationData = { ...data.trainSubset, primaryMetric: 'f1' };
    await expect(sparsified(fresh(), { levels: [0] }, { ...data, trainSubset })).rejects.toThrow(
      /no 'f1', only accuracy/,
    );
  });
});

it('is rejected for a method without levels of sparsity', async () => {
  const peft = fresh();
  const { atSparsity: _, ...method } = activeAdapter(peft).method;
  replaceAdapter(peft, { method });
  await expect(sparsified(peft)).rejects.toThrow(
    expect.objectContaining({ code: 'PEFT_CONFIG', path: 'method' }) as Error,
  );
});

describe('a schedule that was interrupted', () => {
  const options: Partial<SoraConfig> = { loraDropout: 0.1, compactEvery: 3 };
  const course = [0, 0.01, 0.02];

  it('resumes from the middle of a stage with the same result', async () => {
    const snapshots: SparsifySnapshot[] = [];
    const peft = fresh(options);
    const records = await sparsified(peft, {
      levels: course,
      saveEvery: 5,
      onSnapshot: (snapshot) => void snapshots.push(snapshot),
    });
    expect(snapshots.map(({ stages, training }) => [stages.length, training.step])).toEqual([
      [0, 5],
      [0, 10],
      [0, 15],
      [1, 5],
      [2, 5],
    ]);
    const inFirstAndLast = snapshots.filter((_, index) => index === 1 || index === 4);
    for (const { stages, training } of inFirstAndLast) {
      const again = fresh(options);
      const resume = {
        stages: JSON.parse(JSON.stringify(stages)) as StageRecord[],
        training: await readSnapshot(writeSnapshot(training)),
      };
      expect(await sparsified(again, { levels: course, resume })).toEqual(records);
      expect(activeAdapter(again).values).toEqual(activeAdapter(peft).values);
    }
  });

  it('resumes between two stages from the current model', async () => {
    const whole = fresh(options);
    const records = await sparsified(whole, { levels: course });
    const peft = fresh(options);
    const stages = await sparsified(peft, { levels: course.slice(0, 1) });
    expect(await sparsified(peft, { levels: course, resume: { stages } })).toEqual(records);
    expect(activeAdapter(peft).values).toEqual(activeAdapter(whole).values);
  });

  it('is rejected with records of another schedule or of another model', async () => {
    const peft = fresh();
    const stages = await sparsified(peft, { levels: [0, 0.02] });
    const refused = expect.objectContaining({ code: 'PEFT_CHECKPOINT', path: 'resume' }) as Error;
    await expect(sparsified(peft, { levels: [0, 0.03, 0.04], resume: { stages } })).rejects.toThrow(refused);
    await expect(sparsified(fresh(), { levels: [0, 0.02, 0.03], resume: { stages } })).rejects.toThrow(refused);
    await expect(sparsified(peft, { levels: [0, 0.02], resume: { stages } })).resolves.toEqual(stages);
  });
});

it.each([
  ['levels', { levels: [] }, {}],
  ['levels', { levels: [0, -1] }, {}],
  ['levels', { levels: [0, NaN] }, {}],
  ['stageEpochs', { stageEpochs: 0 }, {}],
  ['stageEpochs', { stageEpochs: 1.5 }, {}],
  ['budget', {}, { budget: 500 }],
] as const)('reports an invalid option: %s of %o', async (path, options, config) => {
  await expect(sparsified(fresh(config), options)).rejects.toThrow(
    expect.objectContaining({ code: 'PEFT_CONFIG', path }) as Error,
  );
});
