import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import * as tf from '@tensorflow/tfjs-core';
import type { Tensor } from '@tensorflow/tfjs-core';
import * as ort from 'onnxruntime-node';
import { describe, expect, it, vi } from 'vitest';
import { hostTensor } from '@peftjs/core';
import type { Tensors } from '@peftjs/core/method';
import type { InputSpec, PureFunction } from '@peftjs/core/runtime';
import { compiled, type OrtTensor } from '@peftjs/engine';
import { floats, runOnce, runWith } from './cases.js';

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;
const executor = compiled({ threads: 1 });
const at = (t: Tensors, name: string): Tensor => t[name] as Tensor;
const dim = (x: Tensor, axis: number): number => x.shape[axis] as number;
const f = (...shape: (number | string)[]): InputSpec => ({ dtype: 'float32', shape });

describe('programs are identified by what they compute', () => {
  const counted = () => {
    const released = vi.fn();
    const create = vi.fn(async (...given: Parameters<typeof ort.InferenceSession.create>) => {
      const session = await ort.InferenceSession.create(...given);
      const release = session.release.bind(session);
      session.release = () => {
        released();
        return release();
      };
      return session;
    });
    const runtime = { Tensor: ort.Tensor, InferenceSession: { create } as never };
    return {
      create,
      released,
      runtime,
      make: (threads = 1) => compiled({ threads, runtime, executionProviders: ['cpu'] }),
    };
  };
  const scaled =
    (by: number): PureFunction =>
    (t) => ({ y: tf.mul(at(t, 'x'), by) });
  const specs = { x: f('batch', 3) };
  const matrix = { x: f('batch', 3), w: f(3, 3) };

  it('the same step of a second trial opens no session', async () => {
    const { create, make } = counted();
    const first = await make().compile(scaled(2), specs);
    const second = await make().compile(scaled(2), specs);
    expect(create).toHaveBeenCalledTimes(1);
    await first.dispose();
    const third = await make().compile(scaled(2), specs);
    expect(create).toHaveBeenCalledTimes(1);
    expect((await runWith(executor, second, { x: floats([2, 3]) })).y).toEqual(
      (await runWith(executor, third, { x: floats([2, 3]) })).y,
    );
    await Promise.all([second.dispose(), third.dispose()]);
    await (await make().compile(scaled(2), specs)).dispose();
    expect(create).toHaveBeenCalledTimes(1);
  });

  it('the session of a function that is dropped without being disposed of is released, but not before', async () => {
    const { released, make } = counted();
    const w = executor.upload(floats([3, 3]));
    const dropOne = async (): Promise<void> => {
      await make().compile((t) => ({ y: tf.matMul(at(t, 'x'), at(t, 'w')) }), matrix, { w });
    };
    const { run } = await make().compile(scaled(7), specs);
    await dropOne();
    await vi.waitFor(() => {
      collectGarbage();
      expect(released).toHaveBeenCalledTimes(1);
    });
    expect(Object.keys(await run({ x: executor.upload(floats([2, 3])) }))).toEqual(['y']);
  });

  it('constants are stored in a separate session, which is closed with its function', async () => {
    const { create, released, make } = counted();
    const maker = make();
    const fn: PureFunction = (t) => ({ y: tf.matMul(at(t, 'x'), at(t, 'w')) });
    const [x, w, other] = [floats([2, 3]), floats([3, 3], -1, 1, 1), floats([3, 3], -1, 1, 2)].map((tensor) =>
      maker.upload(tensor),
    ) as [OrtTensor, OrtTensor, OrtTensor];
    const product = async (weight: OrtTensor, constants?: Record<string, OrtTensor>) => {
      const made = await maker.compile(fn, matrix, constants);
      const { y } = await made.run({ x, w: weight });
      return { y: await maker.download(y as OrtTensor), made };
    };
    const fed = await product(w);
    const stored = await product(w, { w });
    const ofOther = await product(other, { w: other });
    expect(create).toHaveBeenCalledTimes(3);
    expect(((await create.mock.results[1]?.value) as ort.InferenceSession).inputNames).toHaveLength(1);
    expect(stored.y).toEqual(fed.y);
    expect(ofOther.y).toEqual((await product(other)).y);
    await expect(stored.made.run({ x, w: other })).rejects.toThrow("'w' was compiled as a constant, got another value");
    await stored.made.dispose();
    expect(released).toHaveBeenCalledTimes(1);
  });

  it.each([
    ['no input', { v: [3, 3] }, "constant 'v' is not an input of the function"],
    ['an input of another shape', { w: [2, 3] }, "'w' must be float32 [3, 3], got float32 [2, 3]"],
  ])('a constant that is %s is rejected', async (_, shapes, message) => {
    const constants = Object.fromEntries(
      Object.entries(shapes).map(([name, shape]) => [name, executor.upload(floats(shape))]),
    );
    const compiling = executor.compile((t) => ({ y: tf.add(at(t, 'w'), 1) }), { w: f(3, 3) }, constants);
    await expect(compiling).rejects.toThrow(message);
  });

  it('another constant, setting, name, type or axis makes another program', async () => {
    const { create, make } = counted();
    const outside = (value: number): PureFunction => {
      const table = tf.tensor([1, 2, value]);
      return (t) => ({ y: tf.add(at(t, 'x'), table) });
    };
    const size =
      (fn: (batch: number) => number): PureFunction =>
      (t) => ({ y: tf.add(at(t, 'x'), fn(dim(at(t, 'x'), 0))) });
    const others: (() => Promise<unknown>)[] = [
      () => make().compile(scaled(2), specs),
      () => make().compile(scaled(3), specs),
      () => make(2).compile(scaled(2), specs),
      () => make().compile((t) => ({ z: scaled(2)(t).y as Tensor }), specs),
      () => make().compile(scaled(2), { x: f(2, 3) }),
      () => make().compile(scaled(2), { x: f(2, 'batch') }),
      () => make().compile(scaled(2), { x: f('rows', 3) }),
      () => make().compile(scaled(2), { ...specs, unused: f(1) }),
      () => make().compile(outside(3), specs),
      () => make().compile(outside(4), specs),
      () =>
        make().compile(
          size((batch) => batch),
          specs,
        ),
      () =>
        make().compile(
          size(() => 58),
          specs,
        ),
      () =>
        make().compile(
          size((batch) => 2 * batch - 58),
          specs,
        ),
    ];
    for (const [index, compile] of others.entries()) {
      await compile();
      expect(create).toHaveBeenCalledTimes(index + 1);
    }
    for (const compile of others) await compile();
    expect(create).toHaveBeenCalledTimes(others.length);
  });

  it('keeps a few unused sessions, and never closes one in use', async () => {
    const { create, released, make } = counted();
    const used = await make().compile(scaled(0.5), specs);
    for (let by = 2; by < 14; by++) await (await make().compile(scaled(by), specs)).dispose();
    expect(released).toHaveBeenCalledTimes(12 - 8);
    expect((await runWith(executor, used, { x: hostTensor(Float32Array.of(2, 4, 6), [1, 3]) })).y?.data).toEqual(
      Float32Array.of(1, 2, 3),
    );
    await make().compile(scaled(13), specs);
    expect(create).toHaveBeenCalledTimes(13);
    await make().compile(scaled(2), specs);
    expect(create).toHaveBeenCalledTimes(14);
  });

  it('tries again after a session failed to open', async () => {
    const { create, make } = counted();
    create.mockRejectedValueOnce(new Error('no memory'));
    await expect(make().compile(scaled(2), specs)).rejects.toThrow(/no memory/);
    await expect(make().compile(scaled(2), specs)).resolves.toHaveProperty('compileMs');
  });
});

describe('custom kernels', () => {
  const half = (t: Tensors): Tensor => tf.engine().runKernel('TheirHalf', { x: at(t, 'x') }, { by: 2 });

  it('compile, also for open sizes', async () => {
    const their = compiled({
      threads: 1,
      kernels: {
        TheirHalf: (g, { x }: { x: Parameters<typeof g.map>[1] }, { by }: { by: number }) =>
          g.zip('Div', x, g.scalar(by)),
      },
    });
    const prepared = await their.compile((t) => ({ y: half(t) }), { x: f('batch') });
    expect((await runWith(executor, prepared, { x: hostTensor(Float32Array.of(2, 5), [2]) })).y?.data).toEqual(
      Float32Array.of(1, 2.5),
    );
    await expect(executor.compile((t) => ({ y: half(t) }), { x: f('batch') })).rejects.toThrow(/'TheirHalf'/);
    await prepared.dispose();
  });

  it('replace built-in kernels, and make another program', async () => {
    const x = hostTensor(Float32Array.of(2, 3), [2]);
    const fn: PureFunction = (t) => ({ y: tf.square(at(t, 'x')) });
    const cubing = compiled({
      threads: 1,
      kernels: { Square: (g, { x }: { x: Parameters<typeof g.map>[1] }) => g.zip('Mul', x, g.zip('Mul', x, x)) },
    });
    expect((await runOnce(executor, fn, { x })).y?.data).toEqual(Float32Array.of(4, 9));
    expect((await runOnce(cubing, fn, { x })).y?.data).toEqual(Float32Array.of(8, 27));
    expect((await runOnce(executor, fn, { x })).y?.data).toEqual(Float32Array.of(4, 9));
  });
});
