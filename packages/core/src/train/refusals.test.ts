import { describe, expect, it } from 'vitest';
import { attach, defineMethod } from '../adapter/attach.js';
import { convertToLora } from '../files/convert.js';
import type { Executor } from '../contracts/executor.js';
import type { Batch, EvaluationData, TrainingData } from '../contracts/model.js';
import { EngineError, UnsupportedError } from '../errors.js';
import { toyEvaluationData, toyModel, toyTrainingData } from '@peftjs/conformance';
import { wholeModules } from '../../test/whole-modules.js';
import { hostIntegers } from '../tensors.js';
import { calibrate } from './calibrate.js';
import { evaluate, predict } from './evaluate.js';
import { triplet } from '../losses/embeddings.js';
import { squaredError } from '../losses/losses.js';
import { train } from './train.js';
import type { TrainOptions } from './options.js';
import { sparsify } from './sparsify.js';

/** Computes nothing: invalid input must be rejected before it is called. */
const idle: Executor = {
  info: { executor: 'idle', backend: 'none', threads: 0 },
  upload: () => ({}),
  download: () => Promise.reject(new EngineError('nothing is computed')),
  release: () => undefined,
  compile: () => Promise.reject(new EngineError('something is computed')),
};

function impossible(): never {
  throw new UnsupportedError('never called');
}

const whole = defineMethod({
  ...wholeModules(),
  calibration: () => 'gradients',
  atSparsity: (config) => config,
});
const model = toyModel();
const peft = attach(model, whole({ targetModules: ['query'] }), {});

/** The labels of the last batch, one of them beyond the three classes. */
function withLabel<T extends TrainingData | EvaluationData>(data: T): T {
  const batches = 'epoch' in data ? data.epoch(0) : data.batches;
  const changed = batches.map((batch, index) =>
    index < batches.length - 1 ? batch : { ...batch, labels: hostIntegers(new Int32Array(8).fill(3), [8]) },
  );
  return 'epoch' in data ? { ...data, epoch: () => changed } : { ...data, batches: changed };
}

const judged = { selection: { data: toyEvaluationData() } };
const trained = (options: object = {}, data = toyTrainingData()) =>
  train(peft, data, { executor: idle, epochs: 1, learningRate: 1e-3, ...options });
const sparsified = (options: object = {}, validation = toyEvaluationData()) =>
  sparsify(
    peft,
    { train: toyTrainingData(), trainSubset: toyEvaluationData(), validation },
    {
      executor: idle,
      epochs: 1,
      learningRate: 1e-3,
      levels: [0],
      ...options,
    },
  );

describe('before anything is computed', () => {
  it('train refuses a loss that does not read all texts of a row', async () => {
    const [batch] = toyTrainingData().epoch(0) as readonly [Batch];
    const data: TrainingData = { kind: 'triplets', batchesPerEpoch: 1, epoch: () => [{ ...batch, columns: 4 }] };
    await expect(trained({ loss: triplet() }, data)).rejects.toThrow(
      "the loss 'triplet' reads rows of 3 texts, the data have 4: leave out the other texts, or choose another loss",
    );
  });

  it.each<[string, Record<string, unknown>, string, RegExp]>([
    [
      'an unknown option',
      { learningrate: 1 },
      'learningrate',
      /^train: option 'learningrate' is unknown \(did you mean 'learningRate'\?\)/,
    ],
    [
      'an unknown schedule',
      { schedule: 'cosin' },
      'schedule',
      /'cosin' \(did you mean 'cosine'\?\); expected linear, cosine, constant/,
    ],
    ['a loss without a name', { loss: { loss: () => 0 } }, 'loss', /whose name is missing/],
    [
      'a loss for other data',
      { loss: squaredError() },
      'loss',
      /'squared-error' is for regression, but these rows are for classification/,
    ],
    ['an optimizer without a name', { optimizer: { update: () => ({}) } }, 'optimizer', /whose name is missing/],
    ['a snapshot every 0 steps', { saveEvery: 0, onSnapshot: impossible }, 'saveEvery', /saveEvery is 0; expected >=1/],
    ['snapshots without onSnapshot', { saveEvery: 5 }, 'saveEvery', /saves nothing without onSnapshot/],
    ['no executor', { executor: undefined }, 'executor', /come from an engine, e\.g\. compiled\(\), got missing$/],
    ['the promise of an executor', { executor: Promise.resolve(idle) }, 'executor', /got a promise: await it$/],
    [
      'a callback that is no function',
      { onStep: 'print' },
      'onStep',
      /option 'onStep' is 'print'; expected a function$/,
    ],
    [
      'a setting that is neither on nor off',
      { gradientCheckpointing: 'auto' },
      'gradientCheckpointing',
      /option 'gradientCheckpointing' is 'auto'; expected boolean$/,
    ],
    [
      'an abort controller',
      { signal: new AbortController() },
      'signal',
      /option 'signal' is an AbortController; expected an AbortSignal/,
    ],
    [
      'half an epoch',
      { ...judged, evaluateEvery: { epochs: 0.5 } },
      'evaluateEvery.epochs',
      /is 0\.5; expected integer$/,
    ],
    [
      'evaluations without data',
      { evaluateEvery: 2 },
      'selection',
      /^evaluateEvery needs data to evaluate on: give selection/,
    ],
    [
      'stopping without data',
      { earlyStopping: { patience: 1 } },
      'selection',
      /^earlyStopping needs data to evaluate on/,
    ],
    ['selection without data', { selection: {} }, 'selection.data', /is missing; expected data to evaluate on/],
    ['no patience', { ...judged, earlyStopping: {} }, 'earlyStopping.patience', /is missing; expected number$/],
    [
      'a negative minDelta',
      { ...judged, earlyStopping: { patience: 1, minDelta: -1 } },
      'earlyStopping.minDelta',
      /is -1; expected >=0$/,
    ],
    [
      'an unknown option of selection',
      { selection: { ...judged.selection, evaluation: 1 } },
      'evaluation',
      /'evaluations'/,
    ],
    [
      'an unknown option of earlyStopping',
      { ...judged, earlyStopping: { patience: 1, threshold: 1 } },
      'threshold',
      /^train: earlyStopping: option 'threshold' is unknown; known are patience, metric, lowerIsBetter, minDelta$/,
    ],
    [
      'an interval in words',
      { ...judged, evaluateEvery: 'epoch' },
      'evaluateEvery',
      /is 'epoch'; expected a number of steps or \{ epochs \}$/,
    ],
    ['an unknown interval', { ...judged, evaluateEvery: { epoch: 1 } }, 'epoch', /mean 'epochs'/],
  ])('train rejects %s', async (_, options, path, message) => {
    await expect(trained(options)).rejects.toThrow(
      expect.objectContaining({ code: 'PEFT_CONFIG', path, message: expect.stringMatching(message) as string }),
    );
  });

  it('train rejects data of an unknown kind', async () => {
    const data = { ...toyTrainingData(), kind: 'clasification' } as unknown as TrainingData;
    await expect(trained({}, data)).rejects.toThrow(/kind is 'clasification' \(did you mean 'classification'\?\)/);
  });

  it.each([0, NaN])('train rejects data with %d batches per epoch', async (batchesPerEpoch) => {
    await expect(trained({}, { ...toyTrainingData(), batchesPerEpoch })).rejects.toThrow(
      expect.objectContaining({ code: 'PEFT_CONFIG', path: 'data.batchesPerEpoch' }),
    );
  });

  it('calibrate rejects data without a batch', async () => {
    const empty = { ...toyTrainingData(), epoch: () => [] };
    await expect(calibrate(model, whole(), empty, { executor: idle })).rejects.toThrow(
      'the data have no batch to measure: give at least one',
    );
  });

  it('train rejects missing options', async () => {
    await expect(train(peft, toyTrainingData(), undefined as unknown as TrainOptions)).rejects.toThrow(
      /options must be an object/,
    );
  });

  it('train rejects a label that no output represents', async () => {
    await expect(trained({}, withLabel(toyTrainingData()))).rejects.toThrow(/the label of row 24 is 3; .* 3 outputs/);
  });

  it('train rejects such a label in the selection data', async () => {
    const data = toyEvaluationData();
    await expect(trained({ selection: { data: withLabel(data) } })).rejects.toThrow(/row 24 is 3/);
    await expect(trained({ selection: { data, trainSubset: withLabel(data) } })).rejects.toThrow(/row 24 is 3/);
  });

  it('evaluate rejects such a label', async () => {
    await expect(evaluate(model, withLabel(toyEvaluationData()), { executor: idle })).rejects.toThrow(/row 24 is 3/);
  });

  it('calibrate rejects such a label, and an unknown option', async () => {
    const options = { executor: idle };
    await expect(calibrate(model, whole(), withLabel(toyTrainingData()), options)).rejects.toThrow(/row 24 is 3/);
    const misspelled = { ...options, batchs: 1 };
    await expect(calibrate(model, whole(), toyTrainingData(), misspelled)).rejects.toThrow(/did you mean 'batches'/);
  });

  it('sparsify rejects such a label, and an unknown option', async () => {
    await expect(sparsified({}, withLabel(toyEvaluationData()))).rejects.toThrow(/row 24 is 3/);
    await expect(sparsified({ stageEpoch: 1 })).rejects.toThrow(/did you mean 'stageEpochs'/);
    await expect(sparsified({ resume: { stage: [] } })).rejects.toThrow(/sparsify: resume: .* mean 'stages'/);
    await expect(sparsified({ earlyStopping: { patience: 1 } })).rejects.toThrow(/'earlyStopping' is unknown/);
  });

  it.each<[string, object, object]>([
    ['levels', { levels: undefined }, {}],
    ['data.train', {}, { train: undefined }],
    ['data.trainSubset', {}, { trainSubset: undefined }],
    ['data.validation', {}, { validation: undefined }],
    ['data.reported', {}, { reported: [] }],
  ])('sparsify rejects an impossible value of %s', async (path, options, changed) => {
    const data = { train: toyTrainingData(), trainSubset: toyEvaluationData(), validation: toyEvaluationData() };
    const given = { executor: idle, epochs: 1, levels: [0], ...options };
    await expect(sparsify(peft, { ...data, ...changed }, given)).rejects.toThrow(
      expect.objectContaining({ code: 'PEFT_CONFIG', path }),
    );
  });

  it.each<[string, { rank?: number; energy?: number | undefined }]>([
    ['both', { rank: 1, energy: 0.9 }],
    ['neither', { energy: undefined }],
  ])('convertToLora rejects %s of rank and energy', (given, choice) => {
    const options = { method: whole, ...choice } as Parameters<typeof convertToLora>[1];
    expect(() => convertToLora(peft, options)).toThrow(`convertToLora: expected either rank or energy, got ${given}`);
  });

  it('predict and attach reject an unknown option', async () => {
    const names: object = { adaptorNames: [] };
    await expect(predict(peft, toyEvaluationData().batches, { executor: idle, ...names })).rejects.toThrow(
      /mean 'adapterNames'/,
    );
    const misspelled: object = { sead: 1 };
    expect(() => attach(model, whole(), misspelled)).toThrow(/did you mean 'seed'/);
  });
});
