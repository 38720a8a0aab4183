import { describe, expect, it } from 'vitest';
import { ConfigError } from '@peftjs/core/method';
import { engineFromFlags, resolveEngine } from './executors.js';

const flags = { engine: 'compiled', backend: 'auto', dtype: 'fp32' };

describe('engineFromFlags', () => {
  it('resolves auto to the CPU for the compiled engine, and keeps it for the eager one', () => {
    const onProcessor = { executor: 'compiled', backend: 'cpu', threads: 1, dtype: 'fp32' };
    expect(engineFromFlags(flags)).toEqual(onProcessor);
    expect(engineFromFlags({ ...flags, backend: 'cpu' })).toEqual(onProcessor);
    expect(engineFromFlags({ ...flags, engine: 'eager' }).backend).toBe('auto');
  });

  it('refuses a backend that the engine does not have', () => {
    expect(() => engineFromFlags({ ...flags, backend: 'tensorflow' })).toThrow(ConfigError);
    expect(() => engineFromFlags({ ...flags, engine: 'eager', backend: 'cuda' })).toThrow(
      "--engine eager has no backend 'cuda'; expected auto, tensorflow, wasm, cpu (--engine compiled has 'cuda')",
    );
  });
});

describe('resolveEngine', () => {
  it('names the backend that auto resolves to', async () => {
    const { engine } = await resolveEngine(engineFromFlags({ ...flags, engine: 'eager' }));
    expect(['tensorflow', 'wasm']).toContain(engine.backend);
  });

  it.each([
    ['compiled', 'cpu', 'q8'],
    ['compiled', 'webgpu', 'q8 as fp32'],
    ['compiled', 'cuda', 'q8 as fp32'],
    ['eager', 'wasm', 'q8 as fp32'],
    ['compiled', 'cpu', 'q4'],
    ['eager', 'wasm', 'q4 as fp32'],
  ])('resolves how %s on %s holds weights: %s', async (engine, backend, dtype) => {
    const resolved = async (asked: string) =>
      (await resolveEngine(engineFromFlags({ engine, backend, dtype: asked }))).engine;
    expect(await resolved(dtype.slice(0, 2))).toMatchObject({ backend, dtype });
    expect(await resolved('fp32')).toMatchObject({ backend, dtype: 'fp32' });
  });
});
