import * as tf from '@tensorflow/tfjs-core';
import { describe, expect, it } from 'vitest';
import { relativeDistance } from '@peftjs/conformance';
import { hostTensor } from '@peftjs/core';
import { ConfigError, EngineError, ShapeError, type HostTensor, type Tensors } from '@peftjs/core/method';
import type { PureFunction } from '@peftjs/core/runtime';
import { compiled, eager } from '@peftjs/engine';
import type { OrtTensor } from '@peftjs/engine';
import { floats, runOnce } from './cases.js';

const executor = compiled({ threads: 1 });
const vector = { dtype: 'float32', shape: [3] } as const;

const double: PureFunction = ({ x }) => ({ y: tf.mul(x as tf.Tensor, 2) });

describe('compiled', () => {
  it('reports its backend and threads', () => {
    expect(executor.info).toEqual({ executor: 'compiled', backend: 'cpu', threads: 1 });
    expect(compiled().info.threads).toBeGreaterThanOrEqual(1);
    expect(compiled({ executionProviders: [{ name: 'webgpu' }] }).info.backend).toBe('webgpu');
  });

  it.each([0, -1, 1.5, NaN])('refuses %s threads', (threads) => {
    expect(() => compiled({ threads })).toThrow(ConfigError);
  });

  it('runs on the runtime that it is given', async () => {
    const runtime = await import('onnxruntime-node');
    const other = compiled({ runtime, executionProviders: ['cpu'], threads: 1 });
    const { y } = await runOnce(other, double, { x: hostTensor(Float32Array.of(1, 2, 3), [3]) });
    expect(y?.data).toEqual(Float32Array.of(2, 4, 6));
  });

  it('passes values from call to call without downloading them', async () => {
    const fn = await executor.compile(double, { x: vector });
    let x = executor.upload(hostTensor(Float32Array.of(1, 2, 3), [3]));
    for (let call = 0; call < 3; call++) x = (await fn.run({ x })).y as OrtTensor;
    expect((await executor.download(x)).data).toEqual(Float32Array.of(8, 16, 24));
    expect(fn.compileMs).toBeGreaterThan(0);
    await fn.dispose();
  });

  it('uploads by reference: two functions share one copy', async () => {
    const weight = floats([3]);
    const value = executor.upload(weight);
    expect(await value.getData()).toBe(weight.data);
    const one = await executor.compile(double, { x: vector });
    const other = await executor.compile(({ x }) => ({ y: tf.neg(x as tf.Tensor) }), { x: vector });
    await Promise.all([one.run({ x: value }), other.run({ x: value })]);
    expect(await value.getData()).toBe(weight.data);
    await Promise.all([one.dispose(), other.dispose()]);
  });

  it('accepts names with any characters', async () => {
    const names = ['encoder.layer.0.loraA', 'a/b:0', 'é "x"', 'v0', 'c0', 'in:x', ' '];
    const fn: PureFunction = (t) =>
      Object.fromEntries(names.map((name, index) => [name, tf.add(t[name] as tf.Tensor, index)]));
    const inputs = Object.fromEntries(names.map((name) => [name, floats([2])]));
    const outputs = await runOnce(executor, fn, inputs);
    expect(Object.keys(outputs)).toEqual(names);
    expect(outputs[' ']?.data[0]).toBeCloseTo((inputs[' ']?.data[0] ?? NaN) + 6);
  });

  it('can return inputs, constants, and one tensor twice, and returns bools as int32', async () => {
    const fn = ({ x }: Tensors): Tensors => {
      const y = tf.neg(x as tf.Tensor);
      return {
        same: x as tf.Tensor,
        y,
        again: y,
        one: tf.ones([2]),
        positive: tf.greater(y, 0),
        flat: tf.reshape(x as tf.Tensor, [3, 1]),
      };
    };
    const outputs = await runOnce(executor, fn, { x: hostTensor(Float32Array.of(1, -2, 0), [3]) });
    expect(Array.from(outputs.same?.data ?? [])).toEqual([1, -2, 0]);
    expect(Array.from(outputs.again?.data ?? [])).toEqual([-1, 2, -0]);
    expect(Array.from(outputs.one?.data ?? [])).toEqual([1, 1]);
    expect(outputs.positive).toEqual({ dtype: 'int32', shape: [3], data: Int32Array.of(0, 1, 0) });
    expect(outputs.flat?.shape).toEqual([3, 1]);
  });

  it('leaves a tensor as it is whose axes are transposed to their own places', async () => {
    const fn = ({ x, w }: Tensors): Tensors => ({
      y: tf.matMul(tf.transpose(x as tf.Tensor, [0, 1]), tf.transpose(w as tf.Tensor, [0, 1])),
    });
    const inputs = { x: floats([3, 3]), w: floats([3, 3]) };
    const { y } = await runOnce(executor, fn, inputs);
    expect(
      relativeDistance(y?.data ?? [], (await runOnce(await eager({ backend: 'cpu' }), fn, inputs)).y?.data ?? []),
    ).toBeLessThan(1e-6);
  });

  it('names a reshape that lacks a size', async () => {
    const fn = ({ x }: Tensors): Tensors => ({ y: tf.reshape(x as tf.Tensor, [-1, x?.shape[1] as number]) });
    await expect(executor.compile(fn, { x: vector })).rejects.toThrow(
      /tf\.reshape of \[3\] to \[-1, \]: a size is missing/,
    );
  });

  it('returns independent outputs: releasing one keeps the others and the inputs', async () => {
    const fn = await executor.compile(({ x }) => ({ a: x as tf.Tensor, b: x as tf.Tensor }), { x: vector });
    const x = executor.upload(floats([3]));
    const { a, b } = (await fn.run({ x })) as { a: OrtTensor; b: OrtTensor };
    executor.release(a);
    expect(await executor.download(b)).toEqual(await executor.download(x));
    await expect(executor.download(a)).rejects.toThrow(EngineError);
    await fn.dispose();
  });

  it('requires all inputs that it was compiled for, even those that no output depends on', async () => {
    const fn = await executor.compile(double, { x: vector, unused: vector });
    const x = executor.upload(floats([3]));
    await expect(fn.run({ x })).rejects.toThrow(/'unused' is missing/);
    await expect(fn.run({ x, unused: x })).resolves.toHaveProperty('y');
    await expect(fn.run({ x: executor.upload(floats([4])), unused: x })).rejects.toThrow(ShapeError);
    await expect(fn.run({ x: executor.upload(floats([3, 1])), unused: x })).rejects.toThrow(
      /'x' must be float32 \[3\], got float32 \[3, 1\]/,
    );
    const integers = executor.upload({ dtype: 'int32', shape: [3], data: Int32Array.of(1, 2, 3) });
    await expect(fn.run({ x: integers, unused: x })).rejects.toThrow(ShapeError);
    await expect(fn.run({ x: floats([3]) as never, unused: x })).rejects.toThrow(/not a value of this executor/);
    executor.release(x);
    await expect(fn.run({ x, unused: x })).rejects.toThrow(/released/);
    await fn.dispose();
  });

  it('finishes its current run before it is disposed of, and does not run afterwards', async () => {
    const fn = await executor.compile(double, { x: vector });
    const x = executor.upload(hostTensor(Float32Array.of(1, 2, 3), [3]));
    const running = fn.run({ x });
    await Promise.all([fn.dispose(), fn.dispose()]);
    expect(await (await running).y?.getData()).toEqual(Float32Array.of(2, 4, 6));
    await expect(fn.run({ x })).rejects.toThrow(/disposed/);
  });

  it('passes on why ONNX Runtime rejects the inputs', async () => {
    const rows = ({ ids }: Tensors): Tensors => ({ y: tf.gather(tf.tensor2d([[1], [2]]), ids as tf.Tensor1D) });
    const fn = await executor.compile(rows, { ids: { dtype: 'int32', shape: [1] } });
    const ids = executor.upload({ dtype: 'int32', shape: [1], data: Int32Array.of(7) });
    await expect(fn.run({ ids })).rejects.toThrow(EngineError);
    await fn.dispose();
  });
});

describe('upload', () => {
  const bad: readonly (readonly [string, unknown, new (...args: never[]) => Error])[] = [
    ['float64 memory', { dtype: 'float32', shape: [2], data: new Float64Array(2) }, ShapeError],
    ['a plain array', { dtype: 'float32', shape: [2], data: [1, 2] }, ShapeError],
    ['integers called float32', { dtype: 'float32', shape: [2], data: new Int32Array(2) }, ShapeError],
    ['another type', { dtype: 'float64', shape: [2], data: new Float64Array(2) }, ShapeError],
    ['no memory', { dtype: 'float32', shape: [2] }, ShapeError],
    ['too few numbers', { dtype: 'float32', shape: [2, 2], data: new Float32Array(3) }, ShapeError],
    ['a broken shape', { dtype: 'float32', shape: [NaN], data: new Float32Array(1) }, ShapeError],
    ['a negative shape', { dtype: 'float32', shape: [-1], data: new Float32Array(1) }, ShapeError],
    ['NaN', { dtype: 'float32', shape: [2], data: Float32Array.of(1, NaN) }, EngineError],
  ];

  it.each(bad)('refuses %s', (_, tensor, error) => {
    expect(() => executor.upload(tensor as HostTensor)).toThrow(error);
  });

  it('accepts infinities, scalars and empty tensors', () => {
    expect(executor.upload({ dtype: 'float32', shape: [], data: Float32Array.of(-Infinity) }).dims).toEqual([]);
    expect(executor.upload({ dtype: 'float32', shape: [0, 3], data: new Float32Array(0) }).dims).toEqual([0, 3]);
  });
});
