import * as tf from '@tensorflow/tfjs-core';
import type { Tensor } from '@tensorflow/tfjs-core';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { hostTensor, type Executor } from '@peftjs/core';
import { ConfigError, EngineError, ShapeError } from '@peftjs/core/method';
import type { PureFunction } from '@peftjs/core/runtime';
import { compiled, eager, listBackends } from '@peftjs/engine';
import { floats, runOnce } from './cases.js';

const vector = { dtype: 'float32', shape: [3] } as const;
const double: PureFunction = ({ x }) => ({ y: tf.mul(x as Tensor, 2) });

describe('starting a backend', () => {
  // A folder without the package, even if it is installed elsewhere.
  beforeAll(() => void vi.stubEnv('PEFTJS_TFJS_NODE', import.meta.dirname));
  afterAll(() => void vi.unstubAllEnvs());

  it('prints nothing and does not change the current backend', async () => {
    const spies = [
      vi.spyOn(console, 'warn'),
      vi.spyOn(console, 'error'),
      vi.spyOn(console, 'log'),
      vi.spyOn(process.stderr, 'write'),
    ];
    const listeners = (): unknown[] =>
      ['uncaughtException', 'unhandledRejection'].map((event) => process.listeners(event as never));
    const before = listeners();
    for (const backend of ['wasm', 'cpu'] as const) await runOnce(await eager({ backend }), double, { x: floats([3]) });
    expect(spies.map((spy) => spy.mock.calls)).toEqual([[], [], [], []]);
    expect(tf.getBackend()).toBe('cpu');
    expect(listeners()).toEqual(before);
    expect(tf.env().getBool('PROD')).toBe(false);
    vi.restoreAllMocks();
  });

  it('says what is missing and how to install it', async () => {
    await expect(eager({ backend: 'tensorflow' })).rejects.toThrow(/npm install @tensorflow\/tfjs-node/);
    await expect(eager({ backend: 'tensorflow' })).rejects.toThrow(EngineError);
    await expect(eager({ backend: 'abacus' as never })).rejects.toThrow(ConfigError);
  });

  it('uses the fastest backend that starts when none is named', async () => {
    expect((await eager()).info).toEqual({ executor: 'eager', backend: 'wasm', threads: 1 });
  });

  it('lists all backends', async () => {
    const reports = await listBackends();
    const of = (executor: string, backend: string) =>
      reports.find((r) => r.executor === executor && r.backend === backend);
    expect(of('compiled', 'cpu')).toEqual({ executor: 'compiled', backend: 'cpu', available: true, gpu: 'none' });
    expect(of('eager', 'wasm')).toEqual({ executor: 'eager', backend: 'wasm', available: true, gpu: 'none' });
    const missing = of('eager', 'tensorflow');
    expect(of('compiled', 'webgpu')).toMatchObject({ gpu: 'used' });
    expect(missing).toMatchObject({
      available: false,
      gpu: 'missing',
      reason: expect.stringContaining('not installed') as string,
    });
    expect(missing?.install).toMatch(/npm install @tensorflow\/tfjs-node.*npx tsx tools\/tfjs-node\/build\.ts/);
    for (const { available, reason, install } of reports) {
      expect([reason !== undefined, install !== undefined]).toEqual([!available, !available]);
    }
  });
});

const onTensorFlow = process.env.PEFTJS_TFJS_NODE ? (['tensorflow'] as const) : [];

describe.each(['cpu', 'wasm', ...onTensorFlow] as const)('eager on %s', (backend) => {
  let executor: Executor<Tensor>;
  beforeAll(async () => {
    executor = await eager({ backend });
  });

  it('leaks nothing over 100 runs', async () => {
    const fn = await executor.compile(
      ({ x }) => ({
        y: tf.grad((a) => tf.sum(tf.softmax(tf.square(a))))(x as Tensor),
        same: x as Tensor,
        bool: tf.greater(x as Tensor, 0),
      }),
      { x: vector },
    );
    const x = executor.upload(floats([3]));
    const before = tf.memory().numTensors;
    for (let run = 0; run < 100; run++) {
      for (const value of Object.values(await fn.run({ x }))) executor.release(value);
    }
    expect(tf.memory().numTensors).toBe(before);
    executor.release(x);
    expect(tf.memory().numTensors).toBe(before - 1);
  });

  it('can return inputs and one tensor twice, and returns bools as int32', async () => {
    const fn: PureFunction = ({ x }) => {
      const y = tf.neg(x as Tensor);
      return { same: x as Tensor, y, again: y, positive: tf.greater(y, 0) };
    };
    const outputs = await runOnce(executor, fn, { x: hostTensor(Float32Array.of(1, -2, 0), [3]) });
    expect(Array.from(outputs.same?.data ?? [])).toEqual([1, -2, 0]);
    expect(Array.from(outputs.again?.data ?? [])).toEqual([-1, 2, -0]);
    expect(outputs.positive).toEqual({ dtype: 'int32', shape: [3], data: Int32Array.of(0, 1, 0) });
  });

  it('restores the current backend, even after an error', async () => {
    const inside: string[] = [];
    const fn = await executor.compile(
      () => {
        inside.push(tf.getBackend());
        throw new RangeError('mine');
      },
      { x: vector },
    );
    const x = executor.upload(floats([3]));
    const before = tf.memory().numTensors;
    await expect(fn.run({ x })).rejects.toThrow(RangeError);
    expect([inside, tf.getBackend(), tf.memory().numTensors]).toEqual([[backend], 'cpu', before]);
    executor.release(x);
  });

  it('checks its inputs', async () => {
    const fn = await executor.compile(double, { x: vector });
    const x = executor.upload(floats([3]));
    await expect(fn.run({})).rejects.toThrow(/'x' is missing/);
    await expect(fn.run({ x: executor.upload(floats([4])) })).rejects.toThrow(ShapeError);
    await expect(fn.run({ x: floats([3]) as never })).rejects.toThrow(/not a value of this executor/);
    expect(() => executor.upload({ dtype: 'float32', shape: [1], data: Float32Array.of(NaN) })).toThrow(EngineError);
    await expect(executor.compile(double, { x: { dtype: 'float32', shape: [NaN] } })).rejects.toThrow(ShapeError);
    executor.release(x);
    await expect(fn.run({ x })).rejects.toThrow(/released/);
    await expect(executor.download(x)).rejects.toThrow(EngineError);
    await fn.dispose();
    await expect(fn.run({ x })).rejects.toThrow(/disposed/);
  });

  it('gives the same numbers after a trace', async () => {
    const fn = await executor.compile(double, { x: vector });
    const x = executor.upload(hostTensor(Float32Array.of(1, 2, 3), [3]));
    const onnx = compiled({ threads: 1 });
    const runs = [
      fn.run({ x }),
      onnx.compile(double, { x: vector }),
      fn.run({ x }),
      onnx.compile(double, { x: vector }),
    ] as const;
    const [first, , second] = await Promise.all(runs);
    expect((await executor.download(first.y as Tensor)).data).toEqual(Float32Array.of(2, 4, 6));
    expect((await executor.download(second.y as Tensor)).data).toEqual(Float32Array.of(2, 4, 6));
    expect(tf.getBackend()).toBe('cpu');
  });
});
