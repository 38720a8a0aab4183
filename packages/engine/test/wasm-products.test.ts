import * as tf from '@tensorflow/tfjs-core';
import type { Tensor } from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import type { Executor } from '@peftjs/core';
import type { PureFunction } from '@peftjs/core/runtime';
import { eager } from '@peftjs/engine';
import { distance, floats, runOnce, withGradients } from './cases.js';

describe('products of matrices on WASM', () => {
  let wasm: Executor<Tensor>;
  let cpu: Executor<Tensor>;
  /** The transposes that the backend's own kernel was asked for. */
  const asked: (readonly [boolean, boolean, rank: number])[] = [];
  beforeAll(async () => {
    await import('@tensorflow/tfjs-backend-wasm');
    const { kernelFunc, ...config } = tf.getKernel('BatchMatMul', 'wasm');
    tf.unregisterKernel('BatchMatMul', 'wasm');
    tf.registerKernel({
      ...config,
      kernelFunc: (call) => {
        const { transposeA, transposeB } = call.attrs as { transposeA: boolean; transposeB: boolean };
        asked.push([transposeA, transposeB, call.inputs.a?.shape.length ?? 0]);
        return kernelFunc(call);
      },
    });
    [wasm, cpu] = [await eager({ backend: 'wasm' }), await eager({ backend: 'cpu' })];
  });

  const sides = [false, true].flatMap((a) => [false, true].map((b) => [a, b] as const));
  const leading: readonly (readonly number[])[] = [[], [1], [1, 1], [3], [2, 3]];

  it.each(sides.flatMap(([a, b]) => leading.map((outer) => [a, b, outer] as const)))(
    'match the cpu backend with operands transposed: %s, %s, in a batch of %j',
    async (transposeA, transposeB, outer) => {
      const fn: PureFunction = ({ a, b }) => ({ y: tf.matMul(a as Tensor, b as Tensor, transposeA, transposeB) });
      const inputs = {
        a: floats([...outer, ...(transposeA ? [5, 4] : [4, 5])]),
        b: floats([...outer, ...(transposeB ? [3, 5] : [5, 3])], -2, 2, 2),
      };
      const whole = withGradients(fn, ['a', 'b']);
      const [got, expected] = [await runOnce(wasm, whole, inputs), await runOnce(cpu, whole, inputs)];
      for (const [name, tensor] of Object.entries(expected)) expect(distance(got[name], tensor)).toBeLessThan(1e-6);
    },
  );

  it('pass untransposed operands to the backend, except in batches', () => {
    const ofMatrices = asked.filter(([, , rank]) => rank === 2);
    expect(ofMatrices).not.toHaveLength(0);
    expect(ofMatrices.filter(([a, b]) => a || b)).toEqual([]);
    expect(asked.some(([a, b, rank]) => rank === 3 && (a || b))).toBe(true);
  });

  it('leak no memory, however often the backend was started', async () => {
    await eager({ backend: 'wasm' });
    const specs = { x: { dtype: 'float32', shape: [4, 5] }, w: { dtype: 'float32', shape: [5, 3] } } as const;
    const product: PureFunction = ({ x, w }) => ({ y: tf.matMul(x as Tensor, w as Tensor) });
    const fn = await wasm.compile(withGradients(product, ['x', 'w']), specs);
    const [x, w] = [wasm.upload(floats([4, 5])), wasm.upload(floats([5, 3]))];
    const held = (): number => (tf.engine().registry.wasm as tf.KernelBackend).numDataIds();
    const before = held();
    for (let run = 0; run < 3; run++) Object.values(await fn.run({ x, w })).forEach(wasm.release);
    expect(held()).toBe(before);
  });
});
