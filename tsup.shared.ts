import { copyFile } from 'node:fs/promises';
import { defineConfig, type Options } from 'tsup';

/**
 * How the JavaScript of every package is built: ESM only, one chunk per entry, with maps to the sources, which the package holds. `npm run
 * build` then adds the declarations of all packages.
 */
export const packageBuild = (entry: string[], more: Options = {}) =>
  defineConfig({
    entry,
    format: ['esm'],
    sourcemap: true,
    esbuildOptions(options) {
      options.sourcesContent = false; // the package holds the sources themselves
    },
    clean: true,
    target: 'node20',
    treeshake: true,
    async onSuccess() {
      await copyFile('../../LICENSE', 'LICENSE');
    },
    ...more,
  });
