import * as tf from '@tensorflow/tfjs-core';
import type { Tensor } from '@tensorflow/tfjs-core';
import { describe, expect, it } from 'vitest';
import { hostTensor, PeftError, type Executor } from '@peftjs/core';
import { hostIntegers, type HostTensor } from '@peftjs/core/method';
import type { TensorSpec } from '@peftjs/core/model';
import type { CompiledFunction, PureFunction } from '@peftjs/core/runtime';
import { compiled, eager } from '@peftjs/engine';
import { floats } from './cases.js';

/** An input, and a function of it. */
export const x: TensorSpec = { dtype: 'float32', shape: [2] };
export const double: PureFunction = ({ x }) => ({ y: tf.mul(x as Tensor, 2) });
const vector = hostTensor(Float32Array.of(1, 2), [2]);

/** The error of a call. It must be one of ours, with a stable code and a one-line message. */
export async function refusal(call: () => unknown): Promise<PeftError> {
  try {
    await call();
  } catch (error) {
    expect(error).toBeInstanceOf(PeftError);
    expect((error as PeftError).message).toMatch(/^[^\n]+$/);
    expect((error as PeftError).code).toMatch(/^PEFT_(ENGINE|SHAPE|CONFIG)$/);
    return error as PeftError;
  }
  return expect.fail('nothing was refused');
}

/** Doubles a vector, to show that the executor still works. */
async function doubled(executor: Executor): Promise<HostTensor['data']> {
  const fn = await executor.compile(double, { x });
  const value = executor.upload(vector);
  const { y } = await fn.run({ x: value });
  const { data } = await executor.download(y);
  for (const used of [value, y]) executor.release(used);
  await fn.dispose();
  return data;
}

/** Tests that every executor rejects the same things, each with a one-line message, and still works afterwards. */
export function describeRefusals(name: string, executor: Executor): void {
  describe(`${name} rejects`, () => {
    const uploads: readonly (readonly [string, unknown, RegExp])[] = [
      ['nothing', undefined, /no shape/],
      ['null', null, /no shape/],
      ['a tensor without a shape', { dtype: 'float32', data: new Float32Array(1) }, /no shape/],
      ['a tensor without memory', { dtype: 'float32', shape: [1] }, /float32 in nothing/],
      ['a plain array', { dtype: 'float32', shape: [1], data: [1] }, /float32 in Array/],
      ['memory of another type', { dtype: 'int32', shape: [1], data: new Float32Array(1) }, /int32 in Float32Array/],
      ['a type of its own', { dtype: 'float16', shape: [1], data: new Uint16Array(1) }, /float16 in Uint16Array/],
      [
        'a shape that is not a list',
        { dtype: 'float32', shape: 'many', data: new Float32Array(1) },
        /whole numbers, got many/,
      ],
      ['a shape with NaN', { dtype: 'float32', shape: [NaN], data: new Float32Array(1) }, /whole numbers, got \[NaN\]/],
      ['numbers that do not fill the shape', { ...vector, shape: [3] }, /\[3\] holds 3 numbers, got 2/],
      ['NaN', { ...vector, data: Float32Array.of(1, NaN) }, /NaN at element 1/],
    ];
    it.each(uploads)('to upload %s', async (_, tensor, message) => {
      expect((await refusal(() => executor.upload(tensor as HostTensor))).message).toMatch(message);
    });

    const functions: readonly (readonly [string, unknown, Record<string, unknown>, RegExp])[] = [
      ['nothing', undefined, { x }, /takes a function/],
      ['an input of another type', double, { x: { dtype: 'bool', shape: [1] } }, /'x' must be float32 or int32/],
      [
        'an input without a shape',
        double,
        { x: { dtype: 'float32' } },
        /'x' needs a shape of whole numbers or names, got undefined/,
      ],
      [
        'an input with an impossible shape',
        double,
        { x: { dtype: 'int32', shape: [1.5] } },
        /'x' needs a shape of whole numbers/,
      ],
    ];
    it.each(functions)('to compile %s', async (_, fn, specs, message) => {
      const compiling = await refusal(() => executor.compile(fn as PureFunction, specs as Record<string, TensorSpec>));
      expect(compiling.message).toMatch(message);
    });

    const outputs: readonly (readonly [string, (x: Tensor) => unknown, RegExp])[] = [
      ['returns nothing', () => undefined, /record of tensors/],
      ['returns an empty record', () => ({}), /record of tensors/],
      ['returns a bare tensor', (x) => x, /record of tensors/],
      ['returns a promise', (x) => Promise.resolve({ y: x }), /not a promise/],
      ['returns a number', () => ({ y: 3 }), /'y' is not a tensor/],
      ['returns a list of tensors', (x) => ({ y: [x] }), /'y' is not a tensor/],
    ];
    /** The eager executor only calls the function when it is run. */
    const compileAndRun = async (fn: unknown): Promise<unknown> => {
      const made = await executor.compile(fn as PureFunction, { x });
      return made.run({ x: executor.upload(vector) });
    };
    it.each(outputs)('a function that %s, and still works', async (_, body, message) => {
      const before = tf.memory().numTensors;
      const { message: said } = await refusal(() => compileAndRun(({ x }: { x: Tensor }) => body(x)));
      expect(said).toMatch(message);
      // The inputs of the run are still there.
      expect(tf.memory().numTensors - before).toBe(name.startsWith('eager') ? 1 : 0);
      expect([...(await doubled(executor))]).toEqual([2, 4]);
    });

    it('no error that the function throws itself: it passes it on, and still works', async () => {
      const mine = new RangeError('mine');
      const failing = (): never => {
        throw mine;
      };
      await expect(compileAndRun(failing)).rejects.toBe(mine);
      expect([...(await doubled(executor))]).toEqual([2, 4]);
    });

    describe('to run', () => {
      const value = () => executor.upload(vector);
      const made = (): Promise<CompiledFunction> => executor.compile(double, { x });
      const runs: readonly (readonly [string, () => Record<string, unknown>, RegExp])[] = [
        ['without an input', () => ({}), /'x' is missing; expected float32 \[2\]/],
        ['on an input of another name', () => ({ y: value() }), /'x' is missing/],
        ['on another shape', () => ({ x: executor.upload(floats([3])) }), /must be float32 \[2\], got float32 \[3\]/],
        [
          'on another rank',
          () => ({ x: executor.upload(floats([2, 1])) }),
          /must be float32 \[2\], got float32 \[2, 1\]/,
        ],
        ['on another type', () => ({ x: executor.upload(hostIntegers(Int32Array.of(1, 2), [2])) }), /got int32 \[2\]/],
        ['on a host tensor', () => ({ x: vector }), /not a value of this executor/],
        ['on a number', () => ({ x: 3 }), /not a value of this executor/],
        ['on null', () => ({ x: null }), /not a value of this executor/],
      ];
      it.each(runs)('%s', async (_, inputs, message) => {
        const fn = await made();
        expect((await refusal(() => fn.run(inputs()))).message).toMatch(message);
        await fn.dispose();
      });

      it("on another executor's value", async () => {
        const fn = await made();
        const other = name.startsWith('eager') ? compiled({ threads: 1 }) : await eager({ backend: 'cpu' });
        const foreign = other.upload(vector);
        expect((await refusal(() => fn.run({ x: foreign }))).message).toMatch(/not a value of this executor/);
        await fn.dispose();
      });

      it('on a released value, which cannot be downloaded either', async () => {
        const fn = await made();
        const gone = value();
        executor.release(gone);
        expect((await refusal(() => fn.run({ x: gone }))).message).toMatch(/released/);
        expect((await refusal(() => executor.download(gone))).message).toMatch(/released/);
        await fn.dispose();
      });

      it('on a released output, while the input stays usable', async () => {
        const fn = await made();
        const given = value();
        const { y } = await fn.run({ x: given });
        executor.release(y);
        expect((await refusal(() => fn.run({ x: y }))).message).toMatch(/released/);
        expect([...(await executor.download(given)).data]).toEqual([1, 2]);
        await fn.dispose();
      });

      it('once disposed of, even twice', async () => {
        const fn = await made();
        await Promise.all([fn.dispose(), fn.dispose()]);
        await fn.dispose();
        expect((await refusal(() => fn.run({ x: value() }))).message).toMatch(/disposed; compile it again/);
      });
    });
  });
}
