import * as tf from '@tensorflow/tfjs-core';
import type { Tensor } from '@tensorflow/tfjs-core';
import { describe, expect, it, vi } from 'vitest';
import type { Worker } from 'node:worker_threads';
import { hostTensor, type Executor } from '@peftjs/core';
import { ConfigError, EngineError, ShapeError } from '@peftjs/core/method';
import { quantized } from '@peftjs/core/model';
import { dequantized, quantizedLinear } from '@peftjs/core/nn';
import type { PureFunction } from '@peftjs/core/runtime';
import { compiled } from '@peftjs/engine';
import type { OrtTensor } from '@peftjs/engine';
import * as runtimes from '../src/compiled/runtime.js';
import { floats, integers, runOnce } from './cases.js';

/** The threads that these tests started. */
const started: Worker[] = [];
process.on('worker', (worker) => started.push(worker));

const inThread = compiled({ threads: 1 });
const executor = compiled({ threads: 1, worker: true });
const double: PureFunction = ({ x }) => ({ y: tf.mul(x as Tensor, 2) });
const vector = { dtype: 'float32', shape: [3] } as const;
const numbers = hostTensor(Float32Array.of(1, 2, 3), [3]);

describe('graphs that run in a separate thread', () => {
  it.each(['int8', 'uint8'] as const)('multiply by bytes stored as %s', async (bytes) => {
    const product: PureFunction = ({ x, values, scale }) => ({
      y: quantizedLinear(x as Tensor, { values, scale } as never),
      whole: dequantized({ values, scale } as never),
    });
    const { parts, shape } = quantized(floats([70, 33]));
    const specs = {
      x: { dtype: 'float32', shape: ['rows', 70] },
      values: { dtype: 'int8', shape },
      scale: { dtype: 'float32', shape: [33] },
    } as const;
    const exact = vi.spyOn(runtimes, 'exactBytes').mockResolvedValue(bytes);
    const results = [];
    for (const each of [executor, inThread]) {
      const fn = await each.compile(product, specs);
      const held = { values: each.uploadBytes?.(parts.values) };
      const x = each.upload(floats([9, 70]));
      const outputs = await fn.run({ x, scale: each.upload(parts.scale), ...held } as never);
      results.push(await Promise.all(Object.values(outputs).map((value) => each.download(value))));
      await fn.dispose();
    }
    exact.mockRestore();
    expect(results[0]).toEqual(results[1]);
  });

  it('keep values from call to call, which outlive the function that computed them', async () => {
    const fn = await executor.compile(double, { x: vector });
    const first = executor.upload(numbers);
    let x = first;
    for (let call = 0; call < 3; call++) x = (await fn.run({ x })).y as OrtTensor;
    await fn.dispose();
    expect(await executor.download(x)).toEqual({ ...numbers, data: Float32Array.of(8, 16, 24) });
    expect(await executor.download(x)).toEqual({ ...numbers, data: Float32Array.of(8, 16, 24) });
    expect(await executor.download(first)).toEqual(numbers);
  });

  it('copy uploads: the memory stays with the caller', async () => {
    const mine = Float32Array.of(1, 2, 3);
    const x = executor.upload(hostTensor(mine, [3]));
    expect(mine).toEqual(Float32Array.of(1, 2, 3));
    mine.fill(0);
    expect((await executor.download(x)).data).toEqual(Float32Array.of(1, 2, 3));
  });
});

describe('the thread', () => {
  /** Records the commands that the thread is sent while `body` runs. */
  const sent = async (body: () => Promise<unknown>): Promise<string[]> => {
    const post = vi.spyOn(started.at(-1) as Worker, 'postMessage');
    await body();
    const commands = post.mock.calls.map(([message]) => (message as { command: string }).command);
    post.mockRestore();
    return commands;
  };
  const triple: PureFunction = ({ x }) => ({ y: tf.mul(x as Tensor, 3) });

  it('is shared by all executors, and its sessions by all with the same settings', async () => {
    await runOnce(inThread, triple, { x: numbers });
    const compile = async (): Promise<unknown> => compiled({ threads: 1, worker: true }).compile(triple, { x: vector });
    expect(await sent(compile)).toEqual(['open']);
    expect(await sent(compile)).toEqual([]);
    const other = compiled({ threads: 2, worker: true });
    expect(await sent(() => runOnce(other, triple, { x: numbers }))).toContain('open');
    expect(started).toHaveLength(1);
  });

  it('releases a value once, with its handle', async () => {
    const x = executor.upload(numbers);
    const twice = (): Promise<void> => {
      executor.release(x);
      executor.release(x);
      return Promise.resolve();
    };
    expect(await sent(twice)).toEqual(['release']);
    await expect(executor.download(x)).rejects.toThrow(/released/);
  });

  it('runs one command after another: a value may be released during its run', async () => {
    const fn = await executor.compile(double, { x: vector });
    const x = executor.upload(numbers);
    const running = fn.run({ x });
    await executor.download(x);
    executor.release(x);
    expect(await (await running).y?.getData()).toEqual(Float32Array.of(2, 4, 6));
    await fn.dispose();
  });
});

describe('errors of graphs in a thread', () => {
  const messageOf = async (where: Executor, body: (where: Executor) => Promise<unknown>): Promise<unknown> =>
    body(where).then(
      () => 'no error',
      (error: unknown) => [(error as Error).constructor, (error as Error).message],
    );
  const wrongKernel = (worker: boolean): Executor =>
    compiled({ threads: 1, worker, kernels: { Square: (g, { x }: never) => g.map('NoSuchOperator', x) } });

  it('are those of graphs outside a thread', async () => {
    const outside = { table: floats([3, 2]), at: integers([2], 7, 9) };
    const cases: ((where: Executor) => Promise<unknown>)[] = [
      (where) => runOnce(where, ({ table, at }) => ({ y: tf.gather(table as Tensor, at as Tensor) }), outside),
      async (where) => (await where.compile(double, { x: vector })).run({ x: where.upload(floats([4])) }),
      async (where) => {
        const x = where.upload(numbers);
        where.release(x);
        return (await where.compile(double, { x: vector })).run({ x });
      },
      (where) => runOnce(where, double, { x: hostTensor(Float32Array.of(NaN), [1]) }),
    ];
    for (const body of cases) {
      const [type, message] = (await messageOf(executor, body)) as [unknown, string];
      expect([EngineError, ShapeError]).toContain(type);
      expect([type, message]).toEqual(await messageOf(inThread, body));
    }
  });

  it('say what ONNX Runtime rejects, and where it does not start', async () => {
    const square = (where: Executor) => where.compile(({ x }) => ({ y: tf.square(x as Tensor) }), { x: vector });
    const refused = await messageOf(wrongKernel(true), square);
    expect(refused).toEqual([EngineError, expect.stringMatching(/^ONNX Runtime refused a graph of 1 nodes: .*NoSuch/)]);
    expect(refused).toEqual(await messageOf(wrongKernel(false), square));
    const nowhere = compiled({ executionProviders: ['nowhere'], worker: true });
    expect(await messageOf(nowhere, square)).toEqual(
      await messageOf(compiled({ executionProviders: ['nowhere'] }), square),
    );
  });

  it('name values of another executor', async () => {
    const fn = await executor.compile(double, { x: vector });
    await expect(fn.run({ x: inThread.upload(numbers) })).rejects.toThrow(/belongs to another executor/);
    await fn.dispose();
  });
});

describe('what cannot run in a separate thread', () => {
  it('is rejected with a one-line message', async () => {
    const runtime = await import('onnxruntime-node');
    expect(() => compiled({ worker: true, runtime })).toThrow(ConfigError);
    expect(() => compiled({ worker: true, runtime })).toThrow(/takes no runtime/);
    expect(() => compiled({ worker: true, executionProviders: ['webgpu'] })).toThrow(/'webgpu'/);
    const page = vi.spyOn(process, 'getBuiltinModule').mockReturnValue(undefined);
    expect(() => compiled({ worker: true })).toThrow(/Node's threads; in a page/);
    page.mockRestore();
  });
});

describe('a thread that ends', () => {
  const line = /^the thread that runs graphs has ended \(.+\), and its values are lost; continue with a new [^\n]+$/;

  it.each([
    ['is killed', (worker: Worker) => void worker.terminate()],
    ['fails', (worker: Worker) => worker.postMessage({ command: 'nothing' })],
  ])('because it %s, gives all its users a one-line error', async (_, end) => {
    const user = compiled({ threads: 1, worker: true });
    const fn = await user.compile(double, { x: vector });
    const x = user.upload(numbers);
    const { y } = (await fn.run({ x })) as { y: OrtTensor };
    const before = started.length;
    end(started.at(-1) as Worker);
    for (const pending of [user.download(y), fn.run({ x })]) {
      await expect(pending).rejects.toThrow(EngineError);
      await expect(pending).rejects.toThrow(line);
    }
    expect(() => user.upload(numbers)).toThrow(line);
    await expect(user.compile(({ x }) => ({ y: tf.neg(x as Tensor) }), { x: vector })).rejects.toThrow(line);
    user.release(y);
    await fn.dispose();

    const next = compiled({ threads: 1, worker: true });
    expect((await runOnce(next, double, { x: numbers })).y?.data).toEqual(Float32Array.of(2, 4, 6));
    expect(started).toHaveLength(before + 1);
    const again = await next.compile(double, { x: vector });
    await expect(again.run({ x })).rejects.toThrow(/to a thread that has ended/);
  });
});
