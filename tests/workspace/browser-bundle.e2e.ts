import { symlink, writeFile } from 'node:fs/promises';
import { isBuiltin } from 'node:module';
import { join } from 'node:path';
import { build, createLogger, defaultClientConditions, type Plugin } from 'vite';
import { beforeAll, describe, expect, it } from 'vitest';
import { temporaryFolder } from '../../tools/vitest/temporary-folder.js';
import { packages, root } from './repository.js';

/** A page provides TensorFlow.js itself: these packages are known to run in pages, and slow to bundle. */
const broughtAlong = /^@tensorflow\//;

/** The entries that are imported in a page. */
const entries = packages
  .filter(({ folder }) => !['bench', 'cli', 'create-peftjs'].includes(folder))
  .flatMap(({ manifest }) =>
    Object.keys(manifest.exports)
      .filter((subpath) => subpath !== './package.json')
      .map((subpath) => manifest.name + subpath.slice(1)),
  )
  .filter((name) => name !== 'peftjs/progress'); // for terminals

const folder = temporaryFolder();

/** Collects the Node modules that are imported when the code loads. */
function staticNodeImports(found: string[]): Plugin {
  return {
    name: 'static-node-imports',
    enforce: 'pre',
    resolveId(source, importer, { kind }) {
      if (isBuiltin(source) && kind === 'import-statement') {
        found.push(`${source} in ${(importer ?? '').replace(`${root}/`, '').replace(`${folder}/`, '')}`);
      }
      return null;
    },
  };
}

/** The Node modules that code imports later: Vite leaves such an import alone if told to, other bundlers fail. */
function laterNodeImports(code: string): string[] {
  const imports = code.matchAll(/\bimport\((?:\s|\/\*[^*]*\*\/)*["'`]([^"'`]+)["'`]/g);
  return [...imports].flatMap(([, name = '']) => (isBuiltin(name) ? [`${name}, later`] : []));
}

/** Bundles `code` for a browser and returns the Node modules that it imports. */
async function bundle(code: string): Promise<{ size: number; nodeImports: string[] }> {
  const nodeImports: string[] = [];
  const entry = join(folder, 'entry.js');
  await writeFile(entry, code);
  const output = await build({
    root: folder,
    configFile: false,
    logLevel: 'silent',
    customLogger: createLogger('silent'),
    plugins: [staticNodeImports(nodeImports)],
    resolve: { conditions: ['@peftjs/source', ...defaultClientConditions] },
    build: {
      write: false,
      minify: false,
      lib: { entry, formats: ['es'] },
      rolldownOptions: { external: broughtAlong },
    },
  });
  const chunks = [output].flat().flatMap((result) => ('output' in result ? result.output : []));
  const codes = chunks.flatMap((chunk) => (chunk.type === 'chunk' ? [chunk.code] : []));
  for (const code of codes) nodeImports.push(...laterNodeImports(code));
  const size = codes.reduce((sum, code) => sum + code.length, 0);
  return { size, nodeImports };
}

beforeAll(async () => {
  await writeFile(join(folder, 'package.json'), '{ "type": "module" }');
  await symlink(join(root, 'node_modules'), join(folder, 'node_modules'));
});

describe('a browser bundle', () => {
  it.each(entries)('of %s needs no Node modules', async (name) => {
    const { size, nodeImports } = await bundle(`import * as m from '${name}'; console.log(m);`);
    expect(nodeImports).toEqual([]);
    expect(size).toBeGreaterThan(500);
  });

  it('shows an import of a Node module, at once or later', async () => {
    expect((await bundle(`import fs from 'node:fs'; console.log(fs);`)).nodeImports).toEqual(['node:fs in entry.js']);
    const guarded = `export const read = async () => (await import(/* @vite-ignore */ 'node:fs')).readFileSync;`;
    expect((await bundle(guarded)).nodeImports).toEqual(['node:fs, later']);
    await expect(bundle(`import { gone } from '@peftjs/nowhere'; console.log(gone);`)).rejects.toThrow(
      '@peftjs/nowhere',
    );
  });
});
