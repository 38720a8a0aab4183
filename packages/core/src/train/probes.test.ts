import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { attach, defineMethod } from '../adapter/attach.js';
import type { Executor } from '../contracts/executor.js';
import type { Controller, TrainPlan } from '../contracts/controller.js';
import type { PeftMethod } from '../contracts/method.js';
import type { Batch, TrainingData } from '../contracts/model.js';
import { ConfigError, DataError, TrainingError } from '../errors.js';
import { floats, hostIntegers, hostTensor, hostZeros, tensorAt, type HostTensors } from '../tensors.js';
import { referenceExecutor, toyEvaluationData, toyModel, toyTrainingData } from '@peftjs/conformance';
import { wholeModules } from '../../test/whole-modules.js';
import { predict } from './evaluate.js';
import type { TrainOptions } from './options.js';
import type { TrainingSnapshot } from './snapshot.js';
import { sparsify } from './sparsify.js';
import { train } from './train.js';

let executor: Executor;
beforeAll(async () => {
  executor = await referenceExecutor();
});

const ROWS = 9;
const BIAS = 'encoder.layer.0.attention.query.bias';

/** Trains modules in full, with a controller that holds out nine rows. */
const probing = (own: (plan: TrainPlan) => Partial<Controller>): PeftMethod => ({
  ...wholeModules((plan) => ({ probeRows: ROWS, ...own(plan) })),
  name: 'probing',
  atSparsity: (config) => config,
});

const toy = (own: (plan: TrainPlan) => Partial<Controller>, seed = 1) =>
  attach(toyModel(), defineMethod(probing(own))({ targetModules: ['query'] }), { seed });

const run = (peft: ReturnType<typeof toy>, options: Partial<TrainOptions> = {}, data = toyTrainingData()) =>
  train(peft, data, { executor, epochs: 2, learningRate: 0.01, ...options });

const held = (data: TrainingData, rows = ROWS) => data.holdOut?.(rows) ?? expect.fail('the data hold nothing out');

const shifted = (values: HostTensors, by: number): HostTensors => {
  const bias = tensorAt(values, BIAS);
  return {
    [BIAS]: hostTensor(
      floats(bias).map((value) => value + by),
      bias.shape,
    ),
  };
};

/** The mean cross entropy over rows of the network with these weights in place of its own, in double precision. */
async function lossByHand(values: HostTensors, batches: readonly Batch[]): Promise<number> {
  const model = { ...toyModel(), weights: { ...toyModel().weights, ...values } };
  const outputs = await predict(model, batches, { executor });
  const labels = batches.flatMap((batch) => [...batch.labels.data]);
  const losses = outputs.map((logits, place) => {
    const label = logits[labels[place] as number] ?? NaN;
    return Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit), 0)) - label;
  });
  return losses.reduce((sum, loss) => sum + loss, 0) / losses.length;
}

describe('probes', () => {
  it('give the losses on the held-out rows with their tensors in place of the adapter’s', async () => {
    const seen = new Map<number, Readonly<Record<string, number>>>();
    const peft = toy(() => ({
      reads: (step) => (step % 2 === 0 ? [BIAS] : []),
      probes: (step, values) => (step % 2 === 0 ? { 'as it is': {}, shifted: shifted(values, 2) } : {}),
      afterStep: (step, _values, losses = {}) => void seen.set(step, losses),
    }));
    const at = new Map<number, HostTensors>();
    const onSnapshot = ({ step, adapter }: TrainingSnapshot): void => void at.set(step, adapter);
    await run(peft, { saveEvery: 1, onSnapshot });
    expect([...seen.keys()]).toEqual([2, 4, 6]); // 23 rows make three batches per epoch
    const { heldOut } = held(toyTrainingData());
    for (const step of [2, 4]) {
      const values = at.get(step) ?? expect.fail('no snapshot');
      const losses = seen.get(step) ?? {};
      expect(losses['as it is']).toBeCloseTo(await lossByHand(values, heldOut), 5);
      expect(losses.shifted).toBeCloseTo(await lossByHand({ ...values, ...shifted(values, 2) }, heldOut), 5);
      expect(losses.shifted).not.toBeCloseTo(losses['as it is'] as number, 3);
    }
  });

  it('are measured with the loss of their own run, whatever an earlier one of that name was', async () => {
    const peft = toy(() => ({ probes: () => ({ 'as it is': {} }) }));
    const calls = [0, 0];
    const counting = (index: 0 | 1): TrainOptions['loss'] => {
      const loss: TrainOptions['loss'] = (outputs, { labels }) => {
        calls[index] = (calls[index] ?? 0) + 1;
        return tf.mean(
          tf.square(tf.sub(tf.slice(outputs, [0, 0], [-1, 1]), tf.cast(tf.expandDims(labels, 1), 'float32'))),
        );
      };
      return loss;
    };
    for (const index of [0, 1] as const) {
      const before = calls[0];
      await run(peft, { loss: counting(index) as NonNullable<TrainOptions['loss']> });
      if (index === 1) expect(calls[0]).toBe(before);
    }
    expect(calls[1]).toBeGreaterThan(0);
  });

  it('are measured on rows that are not trained on', async () => {
    const { rest, heldOut } = held(toyTrainingData());
    const rowsOf = (batches: readonly Batch[]): number[] => batches.flatMap(({ rows }) => [...rows]);
    expect([...rowsOf(heldOut), ...rowsOf(rest.epoch(0))].sort((a, b) => a - b)).toEqual([...Array(32).keys()]);
    const others = heldOut.map((batch) => ({
      ...batch,
      labels: hostIntegers(new Int32Array(batch.rows.length), batch.labels.shape),
    }));
    const data: TrainingData = {
      ...toyTrainingData(),
      epoch: () => expect.fail('the rows held out are among these'),
      holdOut: (rows) => ({ ...held(toyTrainingData(), rows), heldOut: others }),
    };
    const plans: TrainPlan[] = [];
    const probed = await run(
      toy((plan) => {
        plans.push(plan);
        return { probes: () => ({ 'as it is': {} }) };
      }),
      {},
      data,
    );
    expect(plans.at(-1)?.totalSteps).toBe(6);
    const alone = await run(
      toy(() => ({ probeRows: 0 })),
      {},
      rest,
    );
    expect(probed.last.values).toEqual(alone.last.values);
  });

  it.each([1, 2])('steer a resumed run to the same end, with seed %i', async (seed) => {
    /** Moves the bias up or down, whichever has the lower loss on the held-out rows. */
    const steered = () =>
      toy(() => {
        let moves = 0;
        let options: Record<string, HostTensors> = {};
        return {
          reads: () => [BIAS],
          probes: (_step, values) => (options = { up: shifted(values, 0.1), down: shifted(values, -0.1) }),
          afterStep(_step, _values, { up = NaN, down = NaN } = {}) {
            moves += up < down ? 1 : -1;
            return { values: tensorAt(options, up < down ? 'up' : 'down') };
          },
          snapshot: () => ({ moves }),
          restore: (state) => (moves = state.moves as number),
        };
      }, seed);
    const snapshots: TrainingSnapshot[] = [];
    const onSnapshot = (snapshot: TrainingSnapshot): void => void snapshots.push(snapshot);
    const { last } = await run(steered(), { saveEvery: 2, onSnapshot });
    const [resume = expect.fail('no snapshot')] = snapshots;
    expect(resume.step).toBe(2);
    expect((await run(steered(), { resume })).last.values).toEqual(last.values);
  });

  it('keep the epochs of a later stage of a sparsifying schedule, and its rows', async () => {
    const epochs: number[] = [];
    const recorded = (data: TrainingData): TrainingData => ({
      ...data,
      epoch(index) {
        epochs.push(index);
        return data.epoch(index);
      },
    });
    const data: TrainingData = {
      ...toyTrainingData(),
      epoch: () => expect.fail('the rows held out are among these'),
      holdOut(rows) {
        const { rest, heldOut } = held(toyTrainingData(), rows);
        return { rest: recorded(rest), heldOut };
      },
    };
    const peft = toy(() => ({ probes: () => ({ 'as it is': {} }) }));
    const judged = toyEvaluationData(2, 1);
    const schedule = { levels: [0, 0], epochs: 1, stageEpochs: 2, learningRate: 0.01, executor };
    await sparsify(peft, { train: data, trainSubset: judged, validation: judged }, schedule);
    expect(epochs).toEqual([0, 1, 2]);
  });
});

describe('a run with probes is rejected in one line', () => {
  const asking = (probe: HostTensors, probeRows = ROWS) =>
    toy(() => ({ probeRows, reads: () => [BIAS], probes: () => ({ probe }) }));

  it('for data that cannot hold out rows', async () => {
    const { holdOut: _, ...data } = toyTrainingData();
    const running = run(asking({}), {}, data);
    await expect(running).rejects.toThrow(ConfigError);
    await expect(running).rejects.toThrow(/^probing measures losses on 9 training rows: give data with 'holdOut'$/);
  });

  it('for a label that no output represents, before anything is trained', async () => {
    const { rest, heldOut } = held(toyTrainingData());
    const beyond = heldOut.map((batch) => ({
      ...batch,
      labels: hostIntegers(new Int32Array(batch.rows.length).fill(3), batch.labels.shape),
    }));
    const steps: number[] = [];
    const data = { ...toyTrainingData(), holdOut: () => ({ rest, heldOut: beyond }) };
    const running = run(asking({}), { onStep: ({ step }) => steps.push(step) }, data);
    await expect(running).rejects.toThrow(DataError);
    await expect(running).rejects.toThrow(/is 3; expected an integer from 0 to 2/);
    expect(steps).toEqual([]);
  });

  it.each([
    [
      'an unknown tensor',
      { gate: hostZeros([1]) },
      ROWS,
      "probe 'probe': expected a tensor of the adapter, got 'gate' [1]",
    ],
    [
      'a tensor of another shape',
      { [BIAS]: hostZeros([3]) },
      ROWS,
      `probe 'probe': expected a tensor of shape [8], got '${BIAS}' [3]`,
    ],
    ['a controller without rows', {}, 0, "the controller probes 'probe' but holds out no rows: set its probeRows"],
  ])('for %s', async (_, probe, rows, message) => {
    const running = run(asking(probe, rows));
    await expect(running).rejects.toThrow(TrainingError);
    await expect(running).rejects.toThrow(message);
  });
});
