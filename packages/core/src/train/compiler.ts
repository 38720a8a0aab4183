import type { CompiledFunction, Executor, PureFunction } from '../contracts/executor.js';
import type { TensorSpec } from '../tensors.js';
import { flatten, type Groups } from './groups.js';

/** Functions that stay compiled at once: more than data in buckets need, and few enough for the memory that each holds. */
const MOST = 32;

/** Compiles a function once for each purpose and shape of batch; of more than `most`, those not used for longest are given up. */
export function cachingCompiler(executor: Executor, most = MOST) {
  const known = new Map<string, Promise<CompiledFunction>>(); // used last, stands last
  let milliseconds = 0;

  const compile = async (fn: PureFunction, shapes: Groups<TensorSpec>): Promise<CompiledFunction> => {
    const made = await executor.compile(fn, flatten(shapes));
    milliseconds += made.compileMs;
    return made;
  };
  const giveUp = async (key: string): Promise<void> => {
    const compiled = known.get(key);
    known.delete(key);
    await (await compiled)?.dispose();
  };

  return {
    milliseconds: () => milliseconds,
    async get(purpose: string, shapes: Groups<TensorSpec>, fn: PureFunction): Promise<CompiledFunction> {
      const key = `${purpose} ${Object.entries(shapes.inputs ?? {})
        .map(([name, { shape }]) => `${name}:${shape.join('x')}`)
        .join(' ')}`;
      const found = known.get(key) ?? compile(fn, shapes);
      known.delete(key);
      known.set(key, found);
      try {
        return await found;
      } catch (error) {
        known.delete(key);
        throw error;
      } finally {
        const [oldest] = known.keys();
        if (known.size > most && oldest !== undefined) await giveUp(oldest);
      }
    },
    async dispose() {
      for (const key of [...known.keys()]) await giveUp(key);
    },
  };
}
