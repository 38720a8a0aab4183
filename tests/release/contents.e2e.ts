import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { missingBuild, packPackages } from '../../tools/release/packed.js';
import { packages } from '../workspace/repository.js';

const missing = missingBuild();
const folder = await mkdtemp(join(tmpdir(), 'peftjs-packed-'));
afterAll(() => rm(folder, { recursive: true, force: true }));
const packed = missing === undefined ? await packPackages(folder) : [];

/** The files that a tarball may have. */
const allowed = [
  /^(?:package\.json|README\.md|CHANGELOG\.md|LICENSE)$/,
  /^dist\/.+\.(?:js|d\.ts)(?:\.map)?$/,
  /^src\/.+(?<!\.test)\.ts$/, // for source maps, and for the export condition of the repository
];
const allowedOf: Readonly<Record<string, RegExp>> = {
  '@peftjs/bench': /^(?:looks\.json|bin\/peft-bench\.js)$/,
  '@peftjs/cli': /^(?:launch\.js|presets\/.+\.json|samples\/.+\.csv)$/,
  'create-peftjs': /^(?:bin\/create-peftjs\.js|templates\/.+)$/,
  '@peftjs/core': /^src\/registrations\.js$/,
  peftjs: /^bin\/peftjs\.js$/,
};

const skipped = missing === undefined ? '' : ` (skipped: ${missing})`;

describe.skipIf(missing !== undefined).each(packages)(`the published $manifest.name${skipped}`, ({ manifest }) => {
  const files = packed.find(({ name }) => name === manifest.name)?.files ?? [];

  it('only has its build, its sources, a README and the licence', () => {
    expect(files).toEqual(expect.arrayContaining(['package.json', 'README.md', 'LICENSE', 'dist/index.js']));
    const patterns = [...allowed, allowedOf[manifest.name] ?? /^$/];
    expect(files.filter((file) => !patterns.some((pattern) => pattern.test(file)))).toEqual([]);
  });

  it('has every file that its exports and its command name', () => {
    const targets = Object.values(manifest.exports).flatMap((target) =>
      typeof target === 'string' ? [target] : Object.values(target),
    );
    const commands = Object.values(manifest.bin ?? {});
    for (const target of [...targets, ...commands]) expect(files).toContain(target.replace(/^\.\//, ''));
  });
});
