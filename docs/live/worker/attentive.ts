import type { Executor } from '@peftjs/core';
import type { CompiledFunction } from '@peftjs/core/runtime';

/**
 * Returns an executor that lets the worker handle messages before every run. Without these pauses, back-to-back
 * WebAssembly runs would block them.
 */
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
