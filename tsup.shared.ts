import { copyFile } from 'node:fs/promises';
import { defineConfig, type Options } from 'tsup';
import { exportedSources } from './tools/packages/folders.js';

/**
 * How the JavaScript of the package in the working folder is built: ESM only, one chunk for each source that it exports, and for `entries`
 * beside these, with maps to the sources, which the package holds. `npm run build` then adds the declarations of all packages.
 */
export const packageBuild = (entries: readonly string[] = [], more: Options = {}) =>
  defineConfig({
    entry: [...exportedSources('.'), ...entries],
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

export default packageBuild();
