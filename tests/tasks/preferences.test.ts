import {
  attach,
  calibrate,
  evaluate,
  hostTensor,
  train,
  withInputs,
  withReference,
  type EvaluationData,
  type TrainOptions,
} from '@peftjs/core';
import { dpo, orpo } from '@peftjs/core/losses';
import { evaluationOutputs, readSnapshot, writeSnapshot, type TrainingSnapshot } from '@peftjs/core/runtime';
import { compiled } from '@peftjs/engine';
import { referenceExecutor, relativeDistance } from '@peftjs/conformance';
import { lora } from '@peftjs/lora';
import { fromPretrained } from '@peftjs/models';
import { sora, sparsify } from '@peftjs/sora';
import { encodePreferences, languageSet, preferenceEvaluation, splitCausal, trainingData } from '@peftjs/tasks';
import { beforeAll, describe, expect, it } from 'vitest';
import { characterDecoder, sonnet } from '../models/characters.js';

const model = await fromPretrained('tiny', { storage: await characterDecoder('llama', sonnet), task: 'causal-lm' });
const executor = await referenceExecutor();

/** Letters, better followed by a colon than by a comma. */
const set = await languageSet(
  'letters',
  Array.from('abcdefghilmnoprstu', (letter) => ({
    prompt: `${letter}?`,
    chosen: `${letter}:`,
    rejected: `${letter},`,
  })),
);
const pairs = encodePreferences(set, model.tokenizer, { maxTokens: 16 });
const { train: rows, selection } = splitCausal(pairs, { share: 0.3, seed: 1 });
const judged = preferenceEvaluation(selection, { batchSize: 4 });
const data = trainingData(rows, { batchSize: 4, seed: 1 });

const attached = () => attach(model, lora({ r: 4, targetModules: 'all-linear' }), { seed: 1 });
const options: TrainOptions = { executor, epochs: 4, learningRate: 0.01, selection: { data: judged } };

describe('a model trained on preferences', () => {
  it.each([
    ['dpo', dpo()],
    ['orpo', orpo()],
  ])('by %s prefers the better answers of rows that it has not seen', async (_, loss) => {
    const peft = attached();
    const { selected } = await train(peft, data, { ...options, epochs: 8, loss });
    expect(selected.metrics['rewardAccuracy']).toBeGreaterThan(0.9);
    const after = await evaluate(peft, judged, { executor });
    expect(after['rewardMargin']).toBeGreaterThan((await evaluate(model, judged, { executor }))['rewardMargin'] ?? NaN);
  });

  it('by default is trained by dpo, whose first step finds no difference to the reference', async () => {
    const losses: number[] = [];
    await train(attached(), data, { ...options, epochs: 1, onStep: ({ loss }) => losses.push(loss) });
    expect(losses[0]).toBeCloseTo(Math.log(2), 6);
  });

  it('is selected by its rewards against the reference, as withReference computes them', async () => {
    const peft = attached();
    const { selected } = await train(peft, data, { ...options, epochs: 1 });
    const compared = await withReference(judged, peft, { executor });
    expect(await evaluate(peft, compared, { executor })).toEqual(selected.metrics);
    expect((await evaluate(model, compared, { executor }))['rewardMargin']).toBe(0);
  });

  it('stops early where its rewards no longer improve', async () => {
    const { stoppedEarly } = await train(attached(), data, {
      ...options,
      epochs: 20,
      earlyStopping: { patience: 1, metric: 'rewardMargin', minDelta: 1e9 },
    });
    expect(stoppedEarly).toBe(true);
  });
});

it('gradients that an adapter starts from are those of the first step', async () => {
  const method = lora({ r: 2, initLoraWeights: 'lora_ga' });
  const measured = await calibrate(model, method, data, { executor, seed: 1 });
  const gradients = Object.values(measured.values).map(({ data: values }) => values.some((value) => value !== 0));
  expect(gradients.length).toBeGreaterThan(0);
  expect(gradients.every(Boolean)).toBe(true);
});

it('a reference that the data have already is kept', async () => {
  const losses: number[] = [];
  const referenceLogps = hostTensor(new Float32Array(2 * rows.rows.length), [rows.rows.length, 2]);
  const onStep: TrainOptions['onStep'] = ({ loss }) => void losses.push(loss);
  await train(attached(), withInputs(data, { referenceLogps }), { ...options, epochs: 1, onStep });
  const known = (await evaluationOutputs(model, preferenceEvaluation(rows, { batchSize: 4 }), { executor })).map(
    ([chosen = NaN, , rejected = NaN]) => Float32Array.of(-chosen, -rejected),
  );
  expect(losses[0]).not.toBeCloseTo(Math.log(2), 4);
  losses.length = 0;
  await train(attached(), withInputs(data, { referenceLogps: known }), { ...options, epochs: 1, onStep });
  expect(losses[0]).toBeCloseTo(Math.log(2), 5);

  const method = lora({ r: 2, initLoraWeights: 'lora_ga' });
  const computed = await calibrate(model, method, data, { executor, seed: 1 });
  const given = await calibrate(model, method, withInputs(data, { referenceLogps: known }), { executor, seed: 1 });
  for (const [path, { data: values }] of Object.entries(computed.values)) {
    expect(relativeDistance(given.values[path]?.data ?? [], values)).toBeLessThan(1e-4);
  }
});

it('a run in stages computes one reference, and scores every stage against it', async () => {
  const references = new Set<unknown>();
  const peft = attach(model, sora({ budget: 'auto', targetModules: 'all-linear' }), { seed: 1 });
  const { sizing, selected } = await train(peft, data, {
    ...options,
    epochs: 1,
    selection: { data: judged, margin: 0.1, trainSubset: { ...judged } },
    saveEvery: 1,
    onSnapshot: ({ reference }) => void references.add(reference),
  });
  expect(sizing?.stages.length).toBeGreaterThan(1);
  for (const { score, trainScore } of sizing?.stages ?? []) expect(trainScore).toBe(score);
  expect(references.size).toBe(1);
  expect(sizing?.stages[sizing.chosen]?.score).toBe(selected.metrics[judged.primaryMetric]);
});

it('a sparsifying schedule scores all its data against one reference', async () => {
  const byMargin = ({ withReference: compare, ...rest }: EvaluationData): EvaluationData => ({
    ...rest,
    primaryMetric: 'rewardMargin',
    ...(compare && { withReference: (outputs) => byMargin(compare(outputs)) }),
  });
  const [peft, validation] = [
    attach(model, sora({ r: 4, targetModules: 'all-linear' }), { seed: 1 }),
    byMargin(judged),
  ];
  const reported = byMargin(await withReference(judged, peft, { executor }));
  const stages = await sparsify(
    peft,
    { train: data, trainSubset: { ...validation }, validation, reported },
    { executor, epochs: 1, stageEpochs: 1, evaluations: 1, learningRate: 0.01, levels: [0, 0.1] },
  );
  for (const { trainMetric, validationMetric, reportedMetric } of stages) {
    expect([trainMetric, validationMetric]).toEqual([reportedMetric, reportedMetric]);
  }
});

describe('a run that is resumed', () => {
  const snapshots: TrainingSnapshot[] = [];
  let whole: Awaited<ReturnType<typeof train>>;
  beforeAll(async () => {
    const keep = (snapshot: TrainingSnapshot) => void snapshots.push(snapshot);
    whole = await train(attached(), data, { ...options, epochs: 2, saveEvery: 2, onSnapshot: keep });
  });
  const stored = async () => readSnapshot(writeSnapshot(snapshots[0] as TrainingSnapshot));
  const resumed = async (resume: TrainingSnapshot) => train(attached(), data, { ...options, epochs: 2, resume });

  it('ends as if it had not been interrupted, to the bit', async () => {
    const { last } = await resumed(await stored());
    expect(last.values).toEqual(whole.last.values);
    expect(last.metrics).toEqual(whole.last.metrics);
  });

  it('keeps the reference that was computed before the first step', async () => {
    const snapshot = await stored();
    const { train: own, selection: others } = snapshot.reference ?? {};
    expect([own?.shape, others?.shape]).toEqual([[rows.rows.length, 2], [selection.rows.length, 4]]); // oxfmt-ignore
    const other = hostTensor(new Float32Array(2 * rows.rows.length), [rows.rows.length, 2]);
    const { last } = await resumed({ ...snapshot, reference: { ...snapshot.reference, train: other } });
    expect(last.values).not.toEqual(whole.last.values);
  });
});

describe('compiled', () => {
  it('gives the losses of the reference executor, with an input that is as wide as the texts are long', async () => {
    const tokens = data.epoch(0)[0]?.inputs['inputIds']?.shape[1] ?? 0;
    const wide = withInputs(data, {
      wide: hostTensor(new Float32Array(rows.rows.length * tokens), [rows.rows.length, tokens]),
    });
    const lossesOn = async (own: TrainOptions['executor']) => {
      const losses: number[] = [];
      const onStep: TrainOptions['onStep'] = ({ loss }) => void losses.push(loss);
      await train(attached(), wide, { executor: own, epochs: 1, learningRate: 0.01, onStep });
      return losses;
    };
    const expected = (await lossesOn(executor)).map((loss) => expect.closeTo(loss, 4) as number);
    expect(await lossesOn(compiled({ threads: 1 }))).toEqual(expected);
  });
});
