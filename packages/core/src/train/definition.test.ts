import { beforeAll, describe, expect, it } from 'vitest';
import { mergeAndUnload } from '../adapter/adapters.js';
import { attach, defineMethod, type AttachOptions } from '../adapter/attach.js';
import type { Executor } from '../contracts/executor.js';
import type { Model, TrainingData } from '../contracts/model.js';
import { crossEntropy } from '../losses/losses.js';
import { adamW } from '../optimizers/adamw.js';
import { lion } from '../optimizers/lion.js';
import { referenceExecutor, toyEvaluationData, toyModel, toyTrainingData } from '@peftjs/conformance';
import { wholeModules } from '../../test/whole-modules.js';
import type { TrainOptions } from './options.js';
import { cosine } from './schedules.js';
import { readSnapshot, writeSnapshot, type TrainingSnapshot } from './snapshot.js';
import { train } from './train.js';

const data = toyEvaluationData(2, 1);
let executor: Executor;
let resume: TrainingSnapshot;

interface Changed {
  readonly options?: Partial<TrainOptions>;
  readonly targetModules?: string[];
  readonly attached?: AttachOptions;
  readonly model?: Model;
  readonly trained?: TrainingData;
}

const run = ({
  options = {},
  targetModules = ['query'],
  attached = {},
  model = toyModel(),
  trained = toyTrainingData(1, 2),
}: Changed = {}) =>
  train(attach(model, defineMethod(wholeModules())({ targetModules }), { seed: 1, ...attached }), trained, {
    ...{ executor, epochs: 1, learningRate: 0.01, learningRates: { head: 0.02 }, selection: { data } },
    ...options,
  });

function merged(): Model {
  const { capabilities, ...others } = wholeModules();
  const method = defineMethod({ ...others, capabilities: { ...capabilities, mergeable: true } });
  return mergeAndUnload(attach(toyModel(), method()));
}

beforeAll(async () => {
  executor = await referenceExecutor();
  const snapshots: TrainingSnapshot[] = [];
  await run({ options: { saveEvery: 1, onSnapshot: (at) => snapshots.push(at) } });
  resume = await readSnapshot(writeSnapshot(snapshots[0] as TrainingSnapshot));
});

describe('a run resumes', () => {
  it('with its original settings, defaults written out or not', async () => {
    const same = { warmupRatio: 0.06, finalRatio: 0.3, clipNorm: 1, loss: crossEntropy(), optimizer: adamW() };
    const { last } = await run({ options: { ...same, schedule: 'linear', resume } });
    expect(last.step).toBe(2);
  });

  it('with other callbacks and evaluations, and with gradient checkpointing', async () => {
    const watched = { evaluateEvery: 1, saveEvery: 1, onSnapshot: () => undefined, gradientCheckpointing: true };
    expect((await run({ options: { ...watched, resume } })).last.step).toBe(2);
  });

  it.each<[string, Changed]>([
    ['epochs was 1 and is now 2', { options: { epochs: 2 } }],
    ['learningRate was 0.01 and is now 0.5', { options: { learningRate: 0.5 } }],
    ['learningRates.head was 0.02 and is now not set', { options: { learningRates: {} } }],
    ['learningRates.gate was not set and is now 1', { options: { learningRates: { head: 0.02, gate: 1 } } }],
    ['warmupRatio was 0.06 and is now 0.5', { options: { warmupRatio: 0.5 } }],
    ['finalRatio was 0.3 and is now 0.5', { options: { finalRatio: 0.5 } }],
    ['clipNorm was 1 and is now null', { options: { clipNorm: null } }],
    ['unclippedGroups was [] and is now ["head"]', { options: { unclippedGroups: ['head'] } }],
    ['gradientAccumulationSteps was 1 and is now 2', { options: { gradientAccumulationSteps: 2 } }],
    ['optimizer.weightDecay was 0 and is now 0.1', { options: { optimizer: adamW({ weightDecay: 0.1 }) } }],
    ['optimizer was "adamw" and is now "lion"', { options: { optimizer: lion() } }],
    ['schedule was "linear" and is now "cosine"', { options: { schedule: cosine() } }],
    ['loss was "cross-entropy" and is now "other"', { options: { loss: { ...crossEntropy(), name: 'other' } } }],
    ['selection.evaluations was 3 and is now 2', { options: { selection: { data, evaluations: 2 } } }],
    [
      'selection.metric was "accuracy" and is now "f1"',
      { options: { selection: { data: { ...data, primaryMetric: 'f1' } } } },
    ],
    ['earlyStopping.patience was not set and is now 1', { options: { earlyStopping: { patience: 1 } } }],
    ['seed was 1 and is now 2', { attached: { seed: 2 } }],
    ['model.trainedModules was ["classifier"] and is now []', { attached: { trainHead: false } }],
    ['model.fingerprint was "toy-encoder-1" and is now "toy-encoder-2"', { model: toyModel(2) }],
    ['model.fingerprint was "toy-encoder-1" and is now "toy-encoder-1+', { model: merged() }],
    ['method.targetModules was ["query"] and is now ["value"]', { targetModules: ['value'] }],
    ['data.batchesPerEpoch was 2 and is now 3', { trained: toyTrainingData(1, 3) }],
  ])('not if %s', async (change, { options, ...changed }) => {
    await expect(run({ ...changed, options: { ...options, resume } })).rejects.toThrow(
      expect.objectContaining({
        code: 'PEFT_CHECKPOINT',
        path: 'resume',
        message: expect.stringMatching(/^resume: .*\. Resume with the original settings/) as string,
      }),
    );
    await expect(run({ ...changed, options: { ...options, resume } })).rejects.toThrow(change);
  });

  it.each([
    [writeSnapshot, /^resume must be a snapshot, as onSnapshot gets it, got bytes: read them by readSnapshot$/],
    [() => ({}), /got \{\}$/],
  ])('not from a value that is no snapshot: %s', async (made, message) => {
    const given = made(resume) as unknown as TrainingSnapshot;
    await expect(run({ options: { resume: given } })).rejects.toThrow(message);
  });

  it('not with two changes, and names both', async () => {
    await expect(run({ options: { epochs: 2, learningRate: 1, resume } })).rejects.toThrow(
      'resume: epochs was 1 and is now 2; learningRate was 0.01 and is now 1. Resume with the original settings, or start again without resume',
    );
  });
});
