import { execFile } from 'node:child_process';
import { cp, readdir, readFile, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { PeftError } from '@peftjs/core';
import { beforeAll, describe, expect, it } from 'vitest';
import { linkInstalled } from '../../release/linked.js';
import { regionsOf, runRegions, unrunPrograms } from '../../../tests/docs/regions.js';
import { temporaryFolder } from '../../vitest/temporary-folder.js';

const execute = promisify(execFile);
const root = fileURLToPath(new URL('../../..', import.meta.url));

/** Runs a command and returns its stdout; if it fails, all its output becomes the error. */
async function run(command: string, args: readonly string[], cwd: string): Promise<string> {
  try {
    return (await execute(command, [...args], { cwd })).stdout;
  } catch (error) {
    const { stdout, stderr } = error as { stdout: string; stderr: string };
    throw new PeftError('PEFT_GENERATOR', stdout + stderr, { cause: error });
  }
}

describe('npx nx g @peftjs/tools:method, in a copy of the workspace', () => {
  const copy = temporaryFolder();

  beforeAll(async () => {
    await copyWorkspace(copy);
  });

  const timeout = 300_000; // two compilations and a whole suite, on a busy machine
  it(
    'makes a package that passes the type checker and the conformance suite, without editing shared sources',
    { timeout },
    async () => {
      await run('npx', ['--no', 'nx', 'g', '@peftjs/tools:method', 'probe'], copy);
      expect(await readlink(join(copy, 'node_modules/@peftjs/probe'))).toBe('../../packages/probe');
      await run('npx', ['--no', '--', 'tsc', '-p', 'packages/probe'], copy);
      const tested = await run('npm', ['--silent', 'test', '-w', '@peftjs/probe', '--', '--reporter=json'], copy);
      const { numPassedTests, numFailedTests } = JSON.parse(tested) as Record<string, number>;
      expect(numPassedTests).toBeGreaterThan(20);
      expect(numFailedTests).toBe(0);

      const changed: string[] = [];
      for (const path of await filesBelow(root)) {
        if (!(await readFile(join(root, path))).equals(await readFile(join(copy, path)))) changed.push(path);
      }
      expect(changed).toEqual(['package-lock.json', 'packages/cli/package.json']);
    },
  );

  it('has a README whose code its tests run', async () => {
    const [readme = '', test = ''] = await Promise.all(
      ['README.md', 'test/readme.test.ts'].map((path) => readFile(join(copy, 'packages/probe', path), 'utf8')),
    );
    expect(unrunPrograms(readme, runRegions())).toHaveLength(1);
    expect(unrunPrograms(readme, [...runRegions(), ...regionsOf(test)])).toEqual([]);
  });

  it('is offered by the command line', async () => {
    const script = `const { availableMethods } = await import('./packages/cli/src/registry/methods.ts');
      console.log((await availableMethods()).map(({ name }) => name).join());`;
    const flags = ['--conditions=@peftjs/source', `--import=${import.meta.resolve('tsx')}`, '--input-type=module'];
    const printed = await run(process.execPath, [...flags, '-e', script], copy);
    expect(printed.trim().split(',')).toContain('probe');
  });
});

/** Leaves out what is installed, built, or used only by other tests. */
const isCopied = (path: string): boolean =>
  !/(?:^|[/\\])(?:node_modules|dist|coverage|fixtures|presets|traps)(?:[/\\]|$)/.test(path);

/** The files of a workspace that the generator, the type checker and the new package's tests need, as sorted paths. */
async function filesBelow(workspace: string): Promise<string[]> {
  const below = async (path: string): Promise<string[]> => {
    const entries = await readdir(join(workspace, path), { withFileTypes: true });
    const inner = entries.map(async (entry) => {
      const inside = join(path, entry.name);
      if (!isCopied(inside)) return [];
      return entry.isDirectory() ? await below(inside) : [inside];
    });
    return (await Promise.all(inner)).flat();
  };
  const entries = await readdir(workspace, { withFileTypes: true });
  const above = entries.filter((entry) => entry.isFile()).map(({ name }) => name);
  const inside = await Promise.all(['.changeset', 'docs/methods', 'packages', 'tools'].map(below));
  return [...above, 'docs/package.json', ...inside.flat()].sort();
}

async function copyWorkspace(copy: string): Promise<void> {
  for (const path of await filesBelow(root)) await cp(join(root, path), join(copy, path));
  await linkInstalled(root, copy);
}
