import type { Executor } from '@peftjs/core';
import type { CompiledFunction } from '@peftjs/core/runtime';

/** The executor, with time for the worker's messages before every run: WebAssembly's own runs would leave them none. */
export function attentive(executor: Executor): Executor {
  return {
    ...executor,
    async compile(fn, inputs): Promise<CompiledFunction> {
      const compiled = await executor.compile(fn, inputs);
      return {
        ...compiled,
        async run(values) {
          await nextTask();
          return compiled.run(values);
        },
      };
    },
  };
}

function nextTask(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve));
}
