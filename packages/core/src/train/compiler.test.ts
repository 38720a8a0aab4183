import * as tf from '@tensorflow/tfjs';
import { beforeAll, describe, expect, it } from 'vitest';
import type { Executor } from '../contracts/executor.js';
import { EngineError } from '../errors.js';
import { referenceExecutor } from '../testing/reference-executor.js';
import type { Tensors } from '../tensors.js';
import { cachingCompiler } from './compiler.js';

/** The reference executor, and what it was asked to compile and to dispose of, by the length of `x`. */
function recorded(reference: Executor): { executor: Executor; compiled: number[]; disposed: number[] } {
  const compiled: number[] = [];
  const disposed: number[] = [];
  const executor: Executor = {
    ...reference,
    async compile(fn, specs) {
      const length = specs['inputs/x']?.shape[0] ?? NaN;
      if (length === 0) throw new EngineError('nothing to compile');
      compiled.push(length);
      const made = await reference.compile(fn, specs);
      return { ...made, compileMs: 2, dispose: () => made.dispose().then(() => void disposed.push(length)) };
    },
  };
  return { executor, compiled, disposed };
}

const shapesOf = (length: number) => ({ inputs: { x: { dtype: 'float32', shape: [length] } } }) as const;
const double = ({ 'inputs/x': x }: Tensors): Tensors => ({ y: tf.mul(x as tf.Tensor, 2) });

describe('compiled functions', () => {
  let reference: Executor;
  beforeAll(async () => {
    reference = await referenceExecutor();
  });

  it('are made once for each purpose and shape', async () => {
    const { executor, compiled, disposed } = recorded(reference);
    const compiler = cachingCompiler(executor);
    const first = await compiler.get('step', shapesOf(3), double);
    expect(await compiler.get('step', shapesOf(3), double)).toBe(first);
    expect(await compiler.get('predict', shapesOf(3), double)).not.toBe(first);
    await compiler.get('step', shapesOf(4), double);
    expect([compiled, compiler.milliseconds()]).toEqual([[3, 3, 4], 6]);
    await compiler.dispose();
    expect(disposed).toEqual([3, 3, 4]);
  });

  it('are made once when two ask at the same time', async () => {
    const { executor, compiled } = recorded(reference);
    const compiler = cachingCompiler(executor);
    const [one, other] = await Promise.all([1, 2].map(() => compiler.get('step', shapesOf(3), double)));
    expect([compiled, one === other]).toEqual([[3], true]);
  });

  it('are bounded in number: those not used for longest go first', async () => {
    const { executor, compiled, disposed } = recorded(reference);
    const compiler = cachingCompiler(executor, 2);
    for (const length of [1, 2, 1, 3, 1, 2]) await compiler.get('step', shapesOf(length), double);
    expect([compiled, disposed]).toEqual([
      [1, 2, 3, 2],
      [2, 3],
    ]);
    await compiler.dispose();
    expect(disposed).toEqual([2, 3, 1, 2]);
  });

  it('are asked for anew after a failure', async () => {
    const { executor, compiled } = recorded(reference);
    const compiler = cachingCompiler(executor);
    await expect(compiler.get('step', shapesOf(0), double)).rejects.toThrow(EngineError);
    await expect(compiler.get('step', shapesOf(0), double)).rejects.toThrow(EngineError);
    await compiler.get('step', shapesOf(1), double);
    expect(compiled).toEqual([1]);
    await compiler.dispose();
  });
});
