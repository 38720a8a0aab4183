import type { CompiledFunction, Executor, PureFunction } from '../contracts/executor.js';
import type { TensorSpec } from '../tensors.js';
import { flatten, type Groups } from './groups.js';

/** Compiles a function once for each purpose and shape of batch. */
export function cachingCompiler(executor: Executor) {
  const known = new Map<string, CompiledFunction>();
  let milliseconds = 0;
  return {
    milliseconds: () => milliseconds,
    async get(purpose: string, shapes: Groups<TensorSpec>, fn: PureFunction): Promise<CompiledFunction> {
      const key = `${purpose} ${Object.entries(shapes.inputs ?? {})
        .map(([name, { shape }]) => `${name}:${shape.join('x')}`)
        .join(' ')}`;
      const found = known.get(key);
      if (found) return found;
      const made = await executor.compile(fn, flatten(shapes));
      milliseconds += made.compileMs;
      known.set(key, made);
      return made;
    },
    async dispose() {
      for (const compiled of known.values()) await compiled.dispose();
      known.clear();
    },
  };
}
