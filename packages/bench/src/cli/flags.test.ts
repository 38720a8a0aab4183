import { availableParallelism } from 'node:os';
import { expect, it } from 'vitest';
import { engineFromFlags } from '../registry/executors.js';
import { defaultWorkers } from './flags.js';

it('there is a process for each core, and one for a device, which all would share', () => {
  const workers = (engine: string, backend: string): number =>
    defaultWorkers(engineFromFlags({ engine, backend, dtype: 'fp32' }));
  expect(workers('compiled', 'auto')).toBe(availableParallelism());
  expect(workers('eager', 'wasm')).toBe(availableParallelism());
  expect(workers('compiled', 'webgpu')).toBe(1);
  expect(workers('compiled', 'cuda')).toBe(1);
});
