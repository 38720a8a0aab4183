import { defineConfig } from 'tsup';

/** How every package is built: ESM only, types beside, one chunk per entry. */
export const packageBuild = (entry: string[]) =>
  defineConfig({
    entry,
    format: ['esm'],
    dts: true,
    sourcemap: true,
    clean: true,
    target: 'node20',
    treeshake: true,
  });
