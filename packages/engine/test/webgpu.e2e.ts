import * as tf from '@tensorflow/tfjs-core';
import type { Tensor } from '@tensorflow/tfjs-core';
import { describe, expect, it } from 'vitest';
import { hostTensor, type Executor } from '@peftjs/core';
import { hostZeros } from '@peftjs/core/method';
import type { PureFunction } from '@peftjs/core/runtime';
import { eager } from '@peftjs/engine';
import type { OrtTensor } from '@peftjs/engine';
import { deviceMemory } from '../src/compiled/device.js';
import { loadRuntime } from '../src/compiled/runtime.js';
import { floats, integers, runOnce } from './cases.js';
import { CASES, compare } from './kernel-cases/compare.js';
import { describeRefusals } from './refusing.js';
import { webgpu } from './webgpu.js';

const { skipped } = webgpu;
const ROWS = 40;
const matrix = { dtype: 'float32', shape: [ROWS, 10] } as const;
const double: PureFunction = ({ x }) => ({ y: tf.mul(x as Tensor, 2) });
const add: PureFunction = ({ x, w }) => ({ y: tf.add(x as Tensor, w as Tensor) });

describe.skipIf(skipped !== undefined)(`compiled on WebGPU${skipped ? ` (${skipped})` : ''}`, () => {
  const executor = (): Executor<OrtTensor> => webgpu.executor ?? expect.fail('there is no WebGPU');

  it('passes values from call to call without downloading them', async () => {
    const gpu = executor();
    const fn = await gpu.compile(double, { x: matrix });
    const input = floats(matrix.shape);
    let x = gpu.upload(input);
    for (let call = 0; call < 3; call++) {
      const { y } = (await fn.run({ x })) as { y: OrtTensor };
      expect(y.location).toBe('gpu-buffer');
      gpu.release(x);
      x = y;
    }
    const expected = { ...input, data: input.data.map((value) => 8 * value) };
    expect(await gpu.download(x)).toEqual(expected);
    await fn.dispose();
    // A value on the device outlives the function that computed it, and can be read several times.
    expect(await gpu.download(x)).toEqual(expected);
    gpu.release(x);
  });

  it('gives the same numbers before and after a weight moves to the device', async () => {
    const gpu = executor();
    const fn = await gpu.compile(add, { x: matrix, w: matrix });
    const [x, weight] = [floats(matrix.shape), floats(matrix.shape, -1, 1, 2)];
    const w = gpu.upload(weight);
    for (let call = 0; call < 4; call++) {
      const batch = gpu.upload(x);
      const { y } = (await fn.run({ x: batch, w })) as { y: OrtTensor };
      expect((await gpu.download(y)).data).toEqual(x.data.map((value, at) => value + (weight.data[at] as number)));
      for (const value of [batch, y]) gpu.release(value);
    }
    expect(await gpu.download(w)).toEqual(weight);
    gpu.release(w);
    await fn.dispose();
  });

  it('runs two functions with one weight at the same time', async () => {
    const gpu = executor();
    const [one, other] = [await gpu.compile(double, { x: matrix }), await gpu.compile(double, { x: matrix })];
    const x = gpu.upload(floats(matrix.shape));
    const runs = await Promise.all([one, other, one, other].map((fn) => fn.run({ x })));
    const results = await Promise.all(runs.map(({ y }) => gpu.download(y as OrtTensor)));
    for (const result of results) expect(result).toEqual(results[0]);
    await Promise.all([one.dispose(), other.dispose()]);
  });

  it('returns scalars, empty tensors, integers, bools and infinities of any size', async () => {
    const inputs = {
      scalar: hostTensor(Float32Array.of(-Infinity), []),
      empty: hostZeros([0, 3]),
      whole: integers([ROWS, 10], -1000, 1000),
      matrix: floats(matrix.shape),
    };
    const fn: PureFunction = (t) => ({ ...t, positive: tf.greater(t.matrix as Tensor, 0) });
    const { positive, ...same } = await runOnce(executor(), fn, inputs);
    expect(same).toEqual(inputs);
    expect(positive).toEqual({
      dtype: 'int32',
      shape: matrix.shape,
      data: Int32Array.from(inputs.matrix.data, (value) => Number(value > 0)),
    });
  });
});

describe.skipIf(skipped !== undefined)('memory of a device', () => {
  it('keeps a value that is passed a second time, and frees it with the value', async () => {
    const { Tensor } = await loadRuntime();
    const memory = deviceMemory(loadRuntime, ['webgpu']);
    await memory.open();
    const weight = new Tensor('float32', new Float32Array(400).fill(3), [ROWS, 10]);
    expect(await memory.operand(weight)).toBe(weight);
    const [copy, again] = await Promise.all([memory.operand(weight), memory.operand(weight)]);
    expect([copy.location, copy.dims, again === copy]).toEqual(['gpu-buffer', [ROWS, 10], true]);
    expect(await memory.operand(copy)).toBe(copy);
    expect(await (await memory.onHost(copy)).getData()).toEqual(await weight.getData());
    expect(await memory.onHost(weight)).toBe(weight);
    memory.release(weight);
    await expect.poll(() => copy.location).toBe('none');
    expect((await memory.operand(weight)).location).toBe('gpu-buffer');
    memory.release(weight);
  });

  it('copies small tensors with each run', async () => {
    const { Tensor } = await loadRuntime();
    const memory = deviceMemory(loadRuntime, ['webgpu']);
    const scalar = new Tensor('float32', Float32Array.of(1), []);
    for (let run = 0; run < 3; run++) expect(await memory.operand(scalar)).toBe(scalar);
    const port = (name: string, shape: readonly number[]) => ({ key: name, name, dtype: 'float32', shape }) as const;
    const outputs = [port('loss', []), port('weight', [ROWS, 10])];
    expect(memory.locations(outputs)).toEqual({ loss: 'cpu', weight: 'gpu-buffer' });
  });
});

/** WebGPU only guarantees about 2^-11 for these. */
const OF_SINES = /^(Tan|Acos)$/;

describe.skipIf(skipped !== undefined)(
  `a kernel on WebGPU gives the numbers of the cpu backend${skipped ? ` (${skipped})` : ''}`,
  () => {
    it.each(Object.entries(CASES))('%s', async (name, given) => {
      const tolerance = OF_SINES.test(name) ? 1e-3 : (given.tolerance ?? 1e-5);
      const onnx = webgpu.executor ?? expect.fail('there is no WebGPU');
      await compare(onnx, await eager({ backend: 'cpu' }), { ...given, tolerance });
    });
  },
);

if (webgpu.executor) describeRefusals('compiled on WebGPU', webgpu.executor);
