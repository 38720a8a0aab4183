// Code blocks of the pages on optimizers, programs and adding a method, and the engine README's on shapes and kernels.
import { activeAdapter, adamW, attach, hostTensor, linear, predict, train, type Executor } from '@peftjs/core';
import { crossEntropy } from '@peftjs/core/losses';
import { defineMethod, hostScalar, hostZeros, tensorAt, type Controller, type HostTensors } from '@peftjs/core/method';
import {
  activeParts,
  downloadAll,
  modelInputs,
  openProgram,
  openRuntime,
  dynamicSpecs,
  releaseAll,
  uploadAll,
  type Loss,
  type LossFunction,
  type Optimizer,
  type ForwardPass,
  type PureFunction,
  type Schedule,
  type StepEvent,
} from '@peftjs/core/runtime';
import { compiled, type Value } from '@peftjs/engine';
import { lora } from '@peftjs/lora';
import * as tf from '@tensorflow/tfjs-core';
import type { Scalar, Tensor, Tensor1D, Tensor2D } from '@tensorflow/tfjs-core';
import { describe, expect, it } from 'vitest';
import { scale } from '../method.js';
import { batchesFor, smallBert } from './given.js';

const executor: Executor = compiled({ threads: 1 });

/** A small BERT with an adapter, and its training and evaluation data. */
async function adapted() {
  const model = await smallBert();
  const { train: data, validation } = await batchesFor(model);
  return { model, peft: attach(model, lora({ r: 2 }), { seed: 1 }), data, validation };
}

describe('options of train that are objects or functions', () => {
  it('an optimizer, a schedule and a loss', async () => {
    const { peft, data } = await adapted();
    const before = activeAdapter(peft).values;
    // #region loss
    /** Focal loss (Lin et al., 2017, arXiv 1708.02002, eq. 4): -(1 - p)^gamma log p of the label's probability p. */
    function focal({ gamma = 2 } = {}): Loss {
      return {
        name: 'focal',
        settings: { gamma },
        labels: 'classification',
        loss(logits, { labels, rowWeights }) {
          const classes = logits.shape[1] as number;
          const logShare = tf.sum(tf.mul(tf.oneHot(labels as Tensor1D, classes), tf.logSoftmax(logits)), -1); // [batch]
          const ofRows = tf.mul(tf.neg(logShare), tf.pow(tf.sub(1, tf.exp(logShare)), gamma));
          return tf.div(tf.sum<Scalar>(tf.mul(ofRows, rowWeights)), tf.maximum(tf.sum(rowWeights), 1));
        },
      };
    }
    // #endregion loss
    // #region train
    await train(peft, data, {
      executor,
      epochs: 3,
      loss: crossEntropy({ labelSmoothing: 0.1 }), // default: the loss for the kind of data
      optimizer: adamW({ weightDecay: 0.01 }), // or sgd({ momentum: 0.9 }), lion(), adafactor(), or your own
      schedule: linear({ warmup: 'transformers' }), // or 'linear', 'cosine', 'constant', or your own
    });
    // #endregion train
    expect(activeAdapter(peft).values).not.toEqual(before);
    const logits = tf.tensor2d([[2, 0]]);
    const given = { labels: tf.tensor1d([0], 'int32'), rowWeights: tf.tensor1d([1]), inputs: {} };
    const share = 1 / (1 + Math.exp(-2));
    expect(focal().loss(logits, given).dataSync()[0]).toBeCloseTo(-((1 - share) ** 2) * Math.log(share), 6);
  });

  it('a loss that is a function', async () => {
    const { peft, data } = await adapted();
    const losses: number[] = [];
    // #region loss-function
    /** The cross-entropy of binary classification, and 0.01 times the square of the logits, which keeps them small. */
    const smallLogits: LossFunction = (logits, batch) => {
      const penalty = tf.mul(tf.mean(tf.square(logits)), 0.01);
      return tf.add(crossEntropy().loss(logits, batch), penalty);
    };
    const onStep = ({ loss }: StepEvent) => {
      losses.push(loss);
    };
    await train(peft, data, { executor, epochs: 1, loss: smallLogits, onStep });
    // #endregion loss-function
    expect(losses.every(Number.isFinite)).toBe(true);
    const plain = (await adapted()).peft;
    const [first] = losses;
    losses.length = 0;
    await train(plain, data, { executor, epochs: 1, onStep });
    expect(first).toBeGreaterThan(losses[0] ?? Infinity);
  });

  it('your own optimizer', async () => {
    const { peft, data } = await adapted();
    // #region optimizer
    /** Adagrad (Duchi et al., 2011): s <- s + g^2, theta <- theta - eta_t g / (sqrt(s) + epsilon). */
    function adagrad({ epsilon = 1e-8 } = {}): Optimizer {
      return {
        name: 'adagrad',
        settings: { epsilon },
        slots: { sum: { carried: 'squaredGradient' } },
        elementwise: true,
        update({ value, gradient, slots, learningRate }) {
          const sum = tf.add(tensorAt(slots, 'sum'), tf.square(gradient));
          const change = tf.div(gradient, tf.add(tf.sqrt(sum), epsilon));
          return { value: tf.sub(value, tf.mul(change, learningRate)), slots: { sum } };
        },
      };
    }
    // #endregion optimizer
    const before = activeAdapter(peft).values;
    await train(peft, data, { executor, epochs: 1, optimizer: adagrad() });
    expect(activeAdapter(peft).values).not.toEqual(before);
    const at = {
      value: tf.scalar(1),
      gradient: tf.scalar(3),
      slots: { sum: tf.scalar(16) },
      learningRate: tf.scalar(0.5),
      decay: false,
      scalars: {},
    };
    expect(adagrad().update(at).value.dataSync()[0]).toBeCloseTo(1 - (0.5 * 3) / 5, 6);
  });

  it('your own schedule', async () => {
    const { peft, data } = await adapted();
    const rates: number[] = [];
    const onStep = ({ learningRate }: StepEvent): void => void rates.push(learningRate);
    const steepness = 8;
    // #region schedule
    const inverseRoot: Schedule = {
      name: 'inverse-root',
      settings: { steepness },
      decay: (progress) => 1 / Math.sqrt(1 + steepness * progress),
    };
    // #endregion schedule
    const schedule = inverseRoot;
    await train(peft, data, { executor, epochs: 2, learningRate: 1, warmupRatio: 0, schedule, onStep });
    expect(rates).toEqual([1, 1 / Math.sqrt(3), 1 / Math.sqrt(5), 1 / Math.sqrt(7)]);
  });
});

describe('programs', () => {
  it('of nested records', async () => {
    // #region program
    interface Inputs {
      readonly batch: { readonly x: Tensor2D; readonly y: Tensor2D };
      readonly weights: { readonly w: Tensor2D };
      readonly rate: Scalar;
    }

    const step = openProgram(
      executor,
      ({ batch: { x, y }, weights, rate }: Inputs) => {
        const { value, grad } = tf.valueAndGrad((w: Tensor) => tf.mean<Scalar>(tf.squaredDifference(tf.dot(x, w), y)))(
          weights.w,
        );
        return { weights: { w: tf.sub(weights.w, tf.mul(grad, rate)) }, loss: value };
      },
      {
        batch: { x: { dtype: 'float32', shape: ['batch', 2] }, y: { dtype: 'float32', shape: ['batch', 1] } },
        weights: { w: { dtype: 'float32', shape: [2, 1] } },
        rate: { dtype: 'float32', shape: [] },
      },
    );

    let weights = { w: executor.upload(hostZeros([2, 1])) };
    for (const rows of [3, 8, 5, 8]) {
      const batch = batchOf(rows); // host tensors: x [rows, 2] and y [rows, 1]
      const next = await step.run({ batch, rate: hostScalar(0.1) }, { weights }); // fed: uploaded for this call; held: yours to release
      releaseAll(executor, { ...weights, loss: next.loss });
      weights = next.weights;
    }
    const { w } = await downloadAll(executor, weights);
    await step.dispose();
    // #endregion program

    function batchOf(rows: number) {
      const x = Float32Array.from({ length: rows * 2 }, (_, index) => Math.sin(index + rows));
      const y = Float32Array.from({ length: rows }, (_, row) => (x[row * 2] ?? 0) + 2 * (x[row * 2 + 1] ?? 0));
      return { x: hostTensor(x, [rows, 2]), y: hostTensor(y, [rows, 1]) };
    }
    let expected = [0, 0];
    for (const rows of [3, 8, 5, 8]) {
      const { x, y } = batchOf(rows);
      const gradient = [0, 0];
      for (let row = 0; row < rows; row++) {
        const own = [x.data[row * 2] ?? 0, x.data[row * 2 + 1] ?? 0];
        const error = own.reduce((sum, value, index) => sum + value * (expected[index] ?? 0), 0) - (y.data[row] ?? 0);
        own.forEach((value, index) => (gradient[index] = (gradient[index] ?? 0) + (2 * error * value) / rows));
      }
      expected = expected.map((value, index) => value - 0.1 * (gradient[index] ?? 0));
    }
    expect([...(w?.data ?? [])]).toEqual(expected.map((value) => expect.closeTo(value, 5) as number));
  });

  it('of a model', async () => {
    const { peft, validation } = await adapted();
    const [batch] = validation.batches;
    if (!batch) return expect.unreachable();
    // #region runtime
    const { model, layers, values } = activeParts(peft); // the active parts: the model, its layers, and their tensors
    const runtime = openRuntime(model, executor);
    const adapter = uploadAll(executor, values);

    const pass: ForwardPass = {
      name: 'log-softmax',
      compute: (scope, inputs) => ({ logShares: tf.logSoftmax(model.forward(scope, inputs)) }),
    };
    const inputs = modelInputs(model, layers, batch); // the batch's tensors, and looked-up rows of embeddings kept on the host
    const [rows, tokens] = tensorAt(batch.inputs, 'inputIds').shape as [number, number];
    const specs = { inputs: dynamicSpecs(inputs, { rows, tokens }), rows: {}, cache: {} };

    const { program, frozen } = runtime.pass(layers, pass, specs); // compiled and uploaded only once
    const { logShares } = await program.run({ inputs }, { frozen, adapter, rows: {}, cache: {} });
    const shares = await executor.download(logShares);

    releaseAll(executor, { ...adapter, logShares });
    await runtime.close();
    // #endregion runtime
    const logits = await predict(peft, [batch], { executor });
    expect([...shares.data]).toEqual(
      logits.flatMap((row) => {
        const logSum = Math.log(row.reduce((sum, logit) => sum + Math.exp(logit), 0));
        return Array.from(row, (logit) => expect.closeTo(logit - logSum, 4) as number);
      }),
    );
  });
});

describe('the engine', () => {
  it('leaves sizes open', async () => {
    const fn: PureFunction = (t) => ({
      hits: tf.sum(tf.cast(tf.equal(tensorAt(t, 'ids'), 1), 'float32')),
      mean: tf.mean(tensorAt(t, 'pairs')),
    });
    // #region axes
    const loss = await executor.compile(fn, {
      ids: { dtype: 'int32', shape: ['batch', 'tokens'] },
      pairs: { dtype: 'float32', shape: ['2*batch', 384] },
    });
    // #endregion axes
    for (const [rows, tokens] of [
      [1, 3],
      [4, 2],
    ] as const) {
      const ids = executor.upload({
        dtype: 'int32',
        shape: [rows, tokens],
        data: new Int32Array(rows * tokens).fill(1),
      });
      const pairs = executor.upload(hostTensor(new Float32Array(2 * rows * 384).fill(2), [2 * rows, 384]));
      const out = await downloadAll(executor, await loss.run({ ids, pairs }));
      expect([out.hits?.data[0], out.mean?.data[0]]).toEqual([rows * tokens, 2]);
    }
    await loss.dispose();
  });

  it('takes kernels', async () => {
    // #region kernels
    const executor = compiled({
      kernels: {
        // tf.engine().runKernel('TheirHalf', { x }, { by: 2 }) in a function
        TheirHalf: (g, { x }: { x: Value }, { by }: { by: number }) => g.zip('Div', x, g.scalar(by)),
      },
    });
    // #endregion kernels
    const half: PureFunction = ({ x }) => ({ y: tf.engine().runKernel('TheirHalf', { x: x as Tensor }, { by: 2 }) });
    const ready = await executor.compile(half, { x: { dtype: 'float32', shape: ['batch'] } });
    const x = executor.upload(hostTensor(Float32Array.of(1, 5), [2]));
    const { y } = await downloadAll(executor, await ready.run({ x }));
    expect(y?.data).toEqual(Float32Array.of(0.5, 2.5));
    await ready.dispose();
  });
});

describe('a controller', () => {
  it('measures the loss with other tensors', async () => {
    const { model, data } = await adapted();
    const asked: Record<string, number>[] = [];
    // #region probes
    /** Every `every` steps, measures the loss without each module's factors and zeros the least important ones. */
    function ablating(names: readonly string[], every: number): Controller {
      return {
        probeRows: 4, // training rows held out to measure the losses on
        scalars: () => ({}),
        reads: (step) => (step % every === 0 ? names : []), // the tensors to read, named `<path>.<tensor>`
        probes: (step, values): Record<string, HostTensors> =>
          step % every === 0
            ? Object.fromEntries(names.map((name) => [name, { [name]: hostZeros(tensorAt(values, name).shape) }]))
            : {},
        afterStep(_step, values, losses = {}) {
          asked.push(losses);
          const [least] = [...names].sort((a, b) => (losses[a] ?? 0) - (losses[b] ?? 0));
          return least === undefined ? undefined : { values: { [least]: hostZeros(tensorAt(values, least).shape) } };
        },
        holdsBudget: () => true,
        snapshot: () => ({}),
        restore: () => undefined,
      };
    }
    // #endregion probes
    const ablated = defineMethod({
      ...scale,
      controller: (layers) =>
        ablating(
          Object.keys(layers).map((path) => `${path}.scale`),
          3,
        ),
    });
    const peft = attach(model, ablated({ targetModules: ['query'] }), { seed: 1 });
    const names = Object.keys(activeAdapter(peft).layers).map((path) => `${path}.scale`);
    const { totalSteps } = await train(peft, data, { executor, epochs: 2, learningRate: 1e-2 });
    expect(totalSteps).toBe(4); // 12 rows of 16, in batches of 8, twice
    expect(asked).toHaveLength(1);
    expect(Object.keys(asked[0] ?? {})).toEqual(names);
    expect(new Set(Object.values(asked[0] ?? {})).size).toBe(names.length);
  });
});
