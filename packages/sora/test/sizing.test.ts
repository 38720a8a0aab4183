import {
  activeAdapter,
  loadPretrained,
  memoryStorage,
  onWarning,
  savePretrained,
  train,
  type PeftModel,
  type TrainOptions,
} from '@peftjs/core';
import { storedParameters } from '@peftjs/core/model';
import {
  readSnapshot,
  writeSnapshot,
  type SizingStage,
  type StepEvent,
  type TrainingSnapshot,
} from '@peftjs/core/runtime';
import { referenceExecutor, toyEvaluationData, toyModel, toyOutputs, toyTrainingData } from '@peftjs/conformance';
import { sora, type SoraConfig } from '@peftjs/sora';
import { expect, it } from 'vitest';
import { attached, trainToy } from './harness.js';

const selection = { data: toyEvaluationData(2), evaluations: 1, trainSubset: toyEvaluationData(1) };
const auto = (): PeftModel<SoraConfig> => attached({ budget: 'auto', r: 2, targetModules: ['query', 'in'] });
const sized = (peft: PeftModel<SoraConfig>, options: Partial<TrainOptions> = {}) =>
  trainToy(peft, { epochs: 2, selection, ...options });

it('an adapter that chooses its size is trained in stages and ends as the chosen one', async () => {
  const peft = auto();
  const steps: StepEvent[] = [];
  const told: SizingStage[] = [];
  const snapshots: TrainingSnapshot[] = [];
  const evaluated: number[] = [];
  const result = await sized(peft, {
    evaluateEvery: { epochs: 1 }, // of the data, which have 4 batches: later stages have 8 steps too
    onEvaluation: ({ step }) => void evaluated.push(step),
    onStep: (event) => void steps.push(event),
    onStage: (stage) => void told.push(stage),
    saveEvery: 5,
    onSnapshot: (snapshot) => void snapshots.push(snapshot),
  });
  const { stages, chosen, reason } = result.sizing ?? expect.fail('no size was chosen');
  expect(told).toEqual(stages);
  expect(stages.slice(0, 3).map(({ kind, budget }) => [kind, budget])).toEqual([
    ['dense', null],
    ['control', null],
    ['descent', 36], // of 2 (8 + 8) + 2 (8 + 12), twice
  ]);
  expect(steps.map(({ step }) => step)).toEqual(steps.map((_, index) => index + 1));
  expect(steps).toHaveLength(8 * stages.length);
  expect([...new Set(evaluated)]).toEqual(stages.flatMap((_, stage) => [8 * stage + 4, 8 * stage + 8]));
  expect(result.last.step).toBe(steps.length);
  expect(result.totalSteps).toBeGreaterThanOrEqual(steps.length);
  expect([stages[0]?.memorization, stages[0]?.generalization]).toEqual([100, 100]);
  const best = stages[chosen] as SizingStage;
  const held = stages.filter((stage) => stage.held).map((stage) => stage.storedParameters);
  expect(best.storedParameters).toBe(Math.min(...held));
  expect(best.worse).toBeLessThanOrEqual(best.allowed);
  expect(reason).toContain(`${best.storedParameters} parameters`);

  const { layers, values, config } = activeAdapter(peft);
  expect(storedParameters(layers, values)).toBe(best.storedParameters);
  expect(config.budget).toBe('auto');
  const storage = memoryStorage();
  await savePretrained(peft, 'auto', { storage });
  const again = await loadPretrained(toyModel(), 'auto', { methods: [sora], storage });
  const before = await toyOutputs(peft);
  (await toyOutputs(again)).forEach((value, at) => expect(value).toBeCloseTo(before[at] ?? NaN, 5));

  await savePretrained(peft, 'unpruned', { storage, pruned: false });
  const toTrain = await loadPretrained(toyModel(), 'unpruned', { methods: [sora], storage });
  expect(activeAdapter(toTrain as PeftModel<SoraConfig>).config.budget).toBe('auto');

  const [middle] = snapshots.filter(({ sizing }) => sizing?.stages.length === 2);
  const resumed = auto();
  const resume = await readSnapshot(writeSnapshot(middle ?? expect.fail('no snapshot of the third stage')));
  expect((await sized(resumed, { resume })).sizing).toEqual(result.sizing);
  expect(activeAdapter(resumed).values).toEqual(values);
});

it('resumes with ranks that compaction has removed, and saves at steps that are counted over all stages', async () => {
  const options = { epochs: 2, selection: { ...selection, margin: 1 } };
  const compacting = () =>
    attached({ budget: 'auto', r: 2, compactEvery: 1, targetModules: ['query', 'value', 'in', 'out'] });
  const snapshots: TrainingSnapshot[] = [];
  const onSnapshot = (snapshot: TrainingSnapshot): void => void snapshots.push(snapshot);
  const peft = compacting();
  const whole = await sized(peft, { ...options, saveEvery: 6, onSnapshot });
  const places = snapshots.map(({ step, sizing }) => [sizing?.stages.length ?? 0, step]);
  // Stages have 8 steps: the 6th, 12th and 18th step, the first one after the 24th, and the 30th.
  expect(places.slice(0, 5)).toEqual([[0, 6], [1, 4], [2, 2], [3, 1], [3, 6]]); // oxfmt-ignore
  for (const resume of snapshots.slice(1, 4)) {
    const resumed = compacting();
    expect((await sized(resumed, { ...options, resume })).sizing).toEqual(whole.sizing);
    expect(activeAdapter(resumed).values).toEqual(activeAdapter(peft).values);
  }
  const [, ofSecond] = snapshots;
  const longer = { ...ofSecond, sizing: { ...ofSecond?.sizing, denseSteps: 12 } } as TrainingSnapshot;
  await expect(sized(compacting(), { ...options, resume: longer })).rejects.toThrow(
    expect.objectContaining({
      code: 'PEFT_CHECKPOINT',
      message: expect.stringMatching(/had 12 .* now has 8/) as string,
    }),
  );
});

it('resumes a stage whose ranks are already gone and leave some of its budget', async () => {
  const compacting = () => attached({ budget: 'auto', r: 7, compactEvery: 1, targetModules: ['query'] });
  const options = { epochs: 8, selection: { ...selection, margin: 0.2 } };
  const snapshots: TrainingSnapshot[] = [];
  const onSnapshot = (snapshot: TrainingSnapshot): void => void snapshots.push(snapshot);
  const whole = await sized(compacting(), { ...options, saveEvery: 1, onSnapshot });
  const inFirstDescent = snapshots.filter(({ sizing }) => sizing?.stages.length === 1);
  const resume = inFirstDescent.at(-2) ?? expect.fail('no snapshot of the first descent');
  const warnings: string[] = [];
  const restore = onWarning((message) => warnings.push(message));
  const resumed = await sized(compacting(), { ...options, resume });
  restore();
  expect(warnings).toEqual([expect.stringContaining('budget is 56; these modules store only 48 parameters')]);
  expect(resumed.sizing).toEqual(whole.sizing);
});

it('counts epochs as the same data without stages does, also where the last step of an epoch has fewer batches', async () => {
  const epochs: number[] = [];
  const data = toyTrainingData(1, 5);
  await train(auto(), data, {
    ...{ executor: await referenceExecutor(), epochs: 2, gradientAccumulationSteps: 2, selection },
    onStep: ({ epoch }) => void epochs.push(epoch),
  });
  expect(epochs.slice(0, 8)).toEqual([0, 0, 0, 1, 1, 1, 2, 2]);
});

it('says so if the dense adapter has no score to compare with', async () => {
  const data = { ...selection.data, score: () => ({ [selection.data.primaryMetric]: NaN }) };
  await expect(sized(auto(), { selection: { data, margin: 1 } })).rejects.toThrow(
    expect.objectContaining({ code: 'PEFT_TRAINING', message: expect.stringContaining('is NaN') as string }),
  );
});

it('an aborted run leaves the model unchanged', async () => {
  const peft = auto();
  const before = activeAdapter(peft);
  const abort = new AbortController();
  const saved: TrainingSnapshot[] = [];
  await expect(
    sized(peft, {
      signal: abort.signal,
      onStage: () => abort.abort(new Error('enough')),
      onSnapshot: (snapshot) => void saved.push(snapshot),
    }),
  ).rejects.toThrow('enough');
  expect(activeAdapter(peft)).toEqual(before);
  expect(saved.map(({ step, sizing }) => [step, sizing?.stages.length])).toEqual([[0, 1]]);
});

it.each([
  ['selection', { selection: undefined }],
  ['selection.margin', { selection: { data: { ...selection.data, scoreRows: undefined } } }],
  ['earlyStopping', { earlyStopping: { patience: 1 } }],
] as const)('needs selection data and stages of a fixed length: %s', async (path, options) => {
  await expect(sized(auto(), options as unknown as Partial<TrainOptions>)).rejects.toThrow(
    expect.objectContaining({ code: 'PEFT_CONFIG', path }) as Error,
  );
});
