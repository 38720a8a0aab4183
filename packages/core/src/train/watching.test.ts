import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { addAdapter, setAdapter } from '../adapter/adapters.js';
import { activeAdapter, adapterNamed } from '../adapter/peft-model.js';
import { attach, defineMethod } from '../adapter/attach.js';
import type { Executor } from '../contracts/executor.js';
import type { EvaluationData } from '../contracts/model.js';
import type { PeftMethod } from '../contracts/method.js';
import { ConfigError, DataError } from '../errors.js';
import { referenceExecutor, toyEvaluationData, toyModel, toyTrainingData } from '@peftjs/conformance';
import { wholeModules } from '../../test/whole-modules.js';
import { evaluate } from './evaluate.js';
import type { EvaluationEvent, StepEvent, TrainOptions, TrainResult } from './options.js';
import { readSnapshot, writeSnapshot, type TrainingSnapshot } from './snapshot.js';
import { train } from './train.js';

let executor: Executor;
beforeAll(async () => {
  executor = await referenceExecutor();
});

const toy = (method: PeftMethod = wholeModules()) =>
  attach(toyModel(), defineMethod(method)({ targetModules: ['query'] }), { seed: 1 });

/** Twelve steps, four per epoch; the last three are the final ones. */
const run = (options: Partial<TrainOptions> = {}, peft = toy()) =>
  train(peft, toyTrainingData(), { executor, epochs: 3, learningRate: 0.05, ...options });

const pause = () => new Promise((resolve) => setTimeout(resolve, 1));

/** Data that return these scores one after the other. */
function scoring(values: readonly number[], more: Partial<EvaluationData> = {}): EvaluationData {
  const left = [...values];
  return { ...toyEvaluationData(2, 1), primaryMetric: 'made', score: () => ({ made: left.shift() ?? NaN }), ...more };
}

/** The results that must be the same, bit for bit, whoever watches. */
async function outcome(options: Partial<TrainOptions>) {
  const events: Pick<StepEvent, 'step' | 'loss' | 'objective'>[] = [];
  const onStep = ({ step, loss, objective }: StepEvent) => events.push({ step, loss, objective });
  const peft = toy();
  const result = await run({ onStep, ...options }, peft);
  return { ...plain(result), values: activeAdapter(peft).values, events };
}

/** Drops functions and times. */
function plain({ selected, last, compileMs: _, ...rest }: TrainResult) {
  return { ...rest, selected: { ...selected, layers: null }, last: { ...last, layers: null } };
}

const selection = () => ({ data: toyEvaluationData(2, 1) });

describe('watching a run', () => {
  it('changes no bit of it: evaluations at any time, snapshots, unused patience', async () => {
    const alone = await outcome({ selection: selection() });
    const evaluated: number[] = [];
    const watched = {
      selection: selection(),
      onEvaluation: ({ step }: EvaluationEvent) => evaluated.push(step),
      onSnapshot: pause,
      saveEvery: 5,
      earlyStopping: { patience: 100 },
    };
    expect(await outcome({ ...watched, evaluateEvery: 5 })).toEqual(alone);
    expect(evaluated).toEqual([5, 10, 11, 12]);
    evaluated.length = 0;
    expect(await outcome({ ...watched, evaluateEvery: { epochs: 1 } })).toEqual(alone);
    expect(evaluated).toEqual([4, 8, 10, 11, 12]);
  });

  it('never selects a checkpoint of evaluateEvery', async () => {
    const best: boolean[] = [];
    const { selected } = await run({
      selection: { data: scoring([9, 9, 1, 2]), evaluations: 1 },
      evaluateEvery: 3,
      onEvaluation: (event) => best.push(event.best),
    });
    expect(best).toEqual([false, false, false, true]);
    expect([selected.step, selected.metrics]).toEqual([12, { made: 2 }]);
  });

  it('says after every batch how far an evaluation is', async () => {
    const seen: number[] = [];
    const data = toyEvaluationData(2, 1);
    const totalRows = data.batches.reduce((sum, { rows }) => sum + rows.length, 0);
    await run({
      selection: { data, evaluations: 1 },
      onEvaluating: ({ rows, totalRows: all }) => seen.push(rows / all),
    });
    expect(seen).toHaveLength(data.batches.length);
    expect(seen.at(-1)).toBe(1);
    const alone: number[] = [];
    const peft = toy();
    await evaluate(peft, data, { executor, onProgress: ({ rows }) => alone.push(rows) });
    expect([alone.length, alone.at(-1)]).toEqual([data.batches.length, totalRows]);
  });

  it('waits for its callbacks', async () => {
    const order: string[] = [];
    const events = (what: string) => async (event: { readonly step: number }) => {
      order.push(`${what} ${event.step}`);
      await pause();
      order.push('heard');
    };
    await run({
      ...{ epochs: 1, selection: selection(), evaluateEvery: 2, saveEvery: { epochs: 1 } },
      ...{ onStep: events('step'), onEvaluation: events('evaluation'), onSnapshot: events('snapshot') },
    });
    expect(order.filter((_, index) => index % 2 === 1).every((what) => what === 'heard')).toBe(true);
    expect(order.filter((what) => what !== 'heard')).toEqual([
      'step 1',
      'step 2',
      'evaluation 2',
      'step 3',
      'step 4',
      'evaluation 4',
    ]);
  });

  it('ends with the error that a callback throws', async () => {
    const onStep = () => Promise.reject(new DataError('the disk is full'));
    await expect(run({ onStep })).rejects.toThrow('the disk is full');
  });
});

it('the result goes to the adapter that was trained, even if another one is active at the end', async () => {
  const peft = toy();
  const { name: trained, values: before } = activeAdapter(peft);
  addAdapter(peft, defineMethod(wholeModules())({ targetModules: ['value'] }), { adapterName: 'other' });
  const { values: ofOther } = adapterNamed(peft, 'other');
  setAdapter(peft, trained);
  const { last } = await run({ epochs: 1, onStep: () => setAdapter(peft, 'other') }, peft);
  expect(adapterNamed(peft, trained).values).toEqual(last.values);
  expect(last.values).not.toEqual(before);
  expect(adapterNamed(peft, 'other').values).toEqual(ofOther);
});

it.each<[string, (outputs: tf.Tensor) => unknown, RegExp]>([
  ['a vector', (outputs) => tf.mean(outputs, 1), /must be one number.*got a tensor of rank 1: take its mean/],
  ['nothing', () => undefined, /must be one number.*got undefined/],
])('the loss must be one number, not %s', async (_, loss, message) => {
  const refused = run({ loss: loss as NonNullable<TrainOptions['loss']> });
  await expect(refused).rejects.toThrow(message);
  await expect(refused).rejects.toThrow(expect.objectContaining({ code: 'PEFT_TRAINING' }));
});

describe('early stopping', () => {
  it('does not end a run whose patience runs out at its last step: it ends as it would without', async () => {
    const data = () => scoring([3, 2, 1, 1, 1, 1]);
    const { stoppedEarly, selected } = await run({
      ...{ selection: { data: data(), evaluations: 1 }, evaluateEvery: 4, earlyStopping: { patience: 2 } },
    });
    expect([stoppedEarly, selected.step]).toEqual([false, 12]);
  });

  it('needs the primary metric among the scores', async () => {
    const data = { ...selection().data, primaryMetric: 'acc' };
    await expect(run({ selection: { data } })).rejects.toThrow(
      expect.objectContaining({ code: 'PEFT_CONFIG', path: 'primaryMetric' }),
    );
  });

  it('ends the run after `patience` evaluations without improvement, with the best checkpoint', async () => {
    const snapshots: TrainingSnapshot[] = [];
    const whole = await run({ saveEvery: 1, onSnapshot: (at) => snapshots.push(at) });
    const steps: number[] = [];
    const peft = toy();
    const result = await run(
      {
        selection: { data: scoring([1, 3, 2, 2.5, 9]) },
        evaluateEvery: 2,
        earlyStopping: { patience: 2 },
        onStep: ({ step }) => steps.push(step),
      },
      peft,
    );
    expect(result).toMatchObject({ totalSteps: 12, stoppedEarly: true, selected: { step: 4 }, last: { step: 8 } });
    expect(steps.at(-1)).toBe(8);
    expect(result.selected.values).toEqual(snapshots[3]?.adapter);
    expect(result.last.values).toEqual(snapshots[7]?.adapter);
    expect(activeAdapter(peft).values).toEqual(result.selected.values);
    expect(result.meanParameters).toBe(whole.meanParameters); // this method's count never changes
    expect(whole.stoppedEarly).toBe(false);
  });

  it.each<[string, number[], Partial<TrainOptions['earlyStopping']>, Partial<EvaluationData>, number]>([
    ['counts only improvements larger than minDelta', [1, 1.5, 2, 2], { minDelta: 1 }, {}, 3],
    ['adds up small improvements until they exceed minDelta', [1, 1.6, 2.2, 2, 2], { minDelta: 1 }, {}, 5],
    ['follows a metric where lower is better', [3, 2, 2, 2], {}, { lowerIsBetter: true }, 4],
    ['counts NaN as no improvement', [NaN, NaN, 5], {}, {}, 2],
  ])('%s', async (_, values, stopping, data, expected) => {
    const { last } = await run({
      selection: { data: scoring(values, data), evaluations: 1 },
      evaluateEvery: 1,
      earlyStopping: { patience: 2, ...stopping },
    });
    expect(last.step).toBe(expected);
  });

  it('stops by one metric and selects by the primary one', async () => {
    const [made, loss] = [
      [1, 2, 3, 4],
      [5, 4, 6, 6],
    ];
    let index = 0;
    const score = () => ({ made: made[index] ?? NaN, loss: loss[index++] ?? NaN });
    const earlyStopping = { patience: 2, metric: 'loss', lowerIsBetter: true };
    const result = await run({ selection: { data: scoring([], { score }) }, evaluateEvery: 2, earlyStopping });
    expect(result).toMatchObject({ stoppedEarly: true, selected: { step: 8 }, last: { step: 8 } });
  });

  it('waits for the budget: checkpoints over it neither count nor are kept', async () => {
    const peft = toy(wholeModules(() => ({ holdsBudget: (step) => step >= 7 })));
    const data = scoring([9, 8, 7, 3, 2, 1]); // after steps 2, 4, 6, 8, 10 and 11
    const result = await run(
      { selection: { data, evaluations: 2 }, evaluateEvery: 2, earlyStopping: { patience: 1 } },
      peft,
    );
    expect(result).toMatchObject({ stoppedEarly: true, selected: { step: 8 }, last: { step: 10 } });
  });

  it('evaluates after every epoch by default', async () => {
    const { last } = await run({ selection: { data: scoring([2, 1]) }, earlyStopping: { patience: 1 } });
    expect(last.step).toBe(8);
  });

  it('names the available metrics', async () => {
    const running = run({
      selection: { data: scoring([1]) },
      earlyStopping: { patience: 1, metric: 'mede' },
    });
    await expect(running).rejects.toThrow(ConfigError);
    await expect(running).rejects.toThrow("is 'mede' (did you mean 'made'?); the selection data have made");
  });

  it('keeps its count across a snapshot', async () => {
    const values = [1, 5, 4, 4.5, 4, 9]; // after steps 2, 4, 6, ..
    const stopping = { evaluateEvery: 2, earlyStopping: { patience: 3 } };
    const snapshots: TrainingSnapshot[] = [];
    const onSnapshot = (at: TrainingSnapshot) => snapshots.push(at);
    const whole = await run({ selection: { data: scoring(values) }, ...stopping, saveEvery: 7, onSnapshot });
    expect(whole).toMatchObject({ stoppedEarly: true, selected: { step: 4 }, last: { step: 10 } });
    const resume = await readSnapshot(writeSnapshot(snapshots[0] as TrainingSnapshot));
    const rest = await run({ selection: { data: scoring(values.slice(3)) }, ...stopping, resume });
    expect(plain(rest)).toEqual(plain(whole));
  });
});

describe('a signal', () => {
  /** A run that is aborted after a step, with the snapshots it handed out. */
  async function aborted(after: number, options: Partial<TrainOptions> = {}, reason?: Error) {
    const stop = new AbortController();
    const snapshots: TrainingSnapshot[] = [];
    const peft = toy();
    const before = activeAdapter(peft).values;
    const error: unknown = await run(
      {
        signal: stop.signal,
        onSnapshot: (at) => snapshots.push(at),
        ...options,
        onStep: ({ step }) => {
          if (step === after) stop.abort(reason);
        },
      },
      peft,
    ).catch((thrown: unknown) => thrown);
    return { error, snapshots, isUntouched: activeAdapter(peft).values === before };
  }

  it('ends the run between two steps, saves its state, and leaves the model unchanged', async () => {
    const { error, snapshots, isUntouched } = await aborted(5);
    expect(error).toMatchObject({ name: 'AbortError' });
    expect(snapshots.map(({ step }) => step)).toEqual([5]);
    expect(isUntouched).toBe(true);
  });

  it.each([3, 8, 11])('after step %d: the resumed run reaches the same end', async (after) => {
    const whole = await outcome({ selection: selection(), evaluateEvery: 4 });
    const { snapshots } = await aborted(after, { selection: selection(), evaluateEvery: 4 });
    const resume = await readSnapshot(writeSnapshot(snapshots[0] as TrainingSnapshot));
    const rest = await outcome({ selection: selection(), evaluateEvery: 4, resume });
    expect(rest).toEqual({ ...whole, events: whole.events.slice(after) });
  });

  it('may come from an event, such as a message or a timer: steps leave room for it', async () => {
    const stop = new AbortController();
    const steps: number[] = [];
    const onStep: TrainOptions['onStep'] = ({ step }) => {
      steps.push(step);
      if (step === 2) setImmediate(() => stop.abort());
    };
    await expect(run({ signal: stop.signal, onStep })).rejects.toMatchObject({ name: 'AbortError' });
    expect(steps).toEqual([1, 2]);
  });

  it('passes on its own reason, and does not need onSnapshot', async () => {
    const reason = new DataError('out of time');
    expect((await aborted(2, { onSnapshot: undefined } as object, reason)).error).toBe(reason);
  });

  it('hands out no snapshot twice, and none of a run that has not started', async () => {
    const { snapshots } = await aborted(6, { saveEvery: 3 });
    expect(snapshots.map(({ step }) => step)).toEqual([3, 6]);
    const [resume] = snapshots as [TrainingSnapshot];
    const gone = AbortSignal.abort();
    expect((await aborted(0, { signal: gone })).snapshots).toEqual([]);
    expect((await aborted(0, { signal: gone, resume })).snapshots).toEqual([]);
  });

  it('has no effect after the last step', async () => {
    expect((await aborted(12)).error).toMatchObject({ last: { step: 12 } });
  });
});
