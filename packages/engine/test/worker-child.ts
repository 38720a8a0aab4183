/*
 * A process whose graphs run in a thread, for four tests: `worker-child.ts exit | busy | memory | end`.
 * Needs --expose-gc.
 */
import * as tf from '@tensorflow/tfjs-core';
import type { Tensor } from '@tensorflow/tfjs-core';
import { compiled } from '@peftjs/engine';
import { setTimeout as wait } from 'node:timers/promises';

const MEGABYTE = 2 ** 20;
const gc = globalThis.gc as () => void;
const shape = [16 * MEGABYTE];
const data = new Int32Array(16 * MEGABYTE); // 64 MB

const tasks: Record<string, () => Promise<unknown>> = {
  /** Leaves a value, a session and an executor open. */
  async exit() {
    const executor = compiled({ threads: 1, worker: true });
    const fn = await executor.compile(({ x }) => ({ y: tf.mul(x as Tensor, 2) }), {
      x: { dtype: 'float32', shape: [2] },
    });
    const { y } = await fn.run({ x: executor.upload({ dtype: 'float32', shape: [2], data: Float32Array.of(1, 2) }) });
    return [...(await executor.download(y as NonNullable<typeof y>)).data];
  },
  /** Exits in the middle of a run. */
  async busy() {
    const executor = compiled({ threads: 1, worker: true });
    const fn = await executor.compile(
      ({ x }) => ({ y: Array.from({ length: 20 }).reduce<Tensor>((y) => tf.matMul(y, x as Tensor), x as Tensor) }),
      { x: { dtype: 'float32', shape: [1024, 1024] } },
    );
    const x = executor.upload({ dtype: 'float32', shape: [1024, 1024], data: new Float32Array(2 ** 20) });
    await executor.download(x);
    for (let each = 0; each < 5; each++) void fn.run({ x });
    await wait(50);
    console.log(JSON.stringify('exits'));
    process.exit();
  },
  /**
   * Prints by how many megabytes the process grows over values of 64 MB, half of them released, half of them
   * unreachable.
   */
  async memory() {
    const executor = compiled({ threads: 1, worker: true });
    const grown = async (): Promise<number> => {
      for (let each = 0; each < 16; each++) {
        const value = executor.upload({ dtype: 'int32', shape, data });
        if (each % 2 === 0) executor.release(value);
        await wait(1);
        gc();
      }
      await executor.download(executor.upload({ dtype: 'float32', shape: [1], data: new Float32Array(1) }));
      return process.memoryUsage.rss() / MEGABYTE;
    };
    const before = await grown();
    return (await grown()) - before;
  },
  /** Prints the exit code of a thread whose executor is unreachable. */
  async end() {
    const ended = new Promise((resolve) => process.once('worker', (worker) => worker.once('exit', resolve)));
    await tasks.exit?.();
    const collecting = setInterval(gc, 10);
    const code = await ended;
    clearInterval(collecting);
    return code;
  },
};

console.log(JSON.stringify(await tasks[process.argv[2] ?? '']?.()));
