import { copyFile } from 'node:fs/promises';
import { defineConfig, type Options } from 'tsup';

/** How every package is built: ESM only, one chunk per entry, types beside the entries that are imported by others; with the licence. */
export const packageBuild = (entry: string[], imported = entry, more: Options = {}) =>
  defineConfig({
    entry,
    format: ['esm'],
    dts: { entry: imported },
    sourcemap: true,
    esbuildOptions(options) {
      options.sourcesContent = false; // the package holds the sources themselves
    },
    clean: true,
    target: 'node20',
    treeshake: true,
    onSuccess: () => copyFile('../../LICENSE', 'LICENSE'),
    ...more,
  });
