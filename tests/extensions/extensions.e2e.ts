import { execFile } from 'node:child_process';
import { cp, mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { beforeAll, expect, it } from 'vitest';
import { temporaryFolder } from '../../tools/vitest/temporary-folder.js';
import type { Exercised } from './exercise.js';
import { expectRight } from './expected.js';

const run = promisify(execFile);
const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));
const modules = here('../../node_modules');

/* A third party's project outside the repository: the package is installed there, next to those that it extends. */
const project = temporaryFolder();
beforeAll(async () => {
  await mkdir(join(project, 'node_modules'));
  for (const name of ['@peftjs', '@tensorflow'])
    await symlink(join(modules, name), join(project, 'node_modules', name));
  await cp(here('theirs'), join(project, 'node_modules/peft-extensions-theirs'), { recursive: true });
  const exercise = await readFile(here('exercise.ts'), 'utf8');
  await writeFile(join(project, 'exercise.ts'), exercise.replace('./theirs/index.js', 'peft-extensions-theirs'));
  await writeFile(join(project, 'package.json'), '{ "type": "module" }');
  const main = "import { exercise } from './exercise.ts';\nconsole.log(JSON.stringify(await exercise()));\n";
  await writeFile(join(project, 'main.ts'), main);
});

it('a package outside the repository extends training, and no file here refers to it', async () => {
  const tsx = join(modules, 'tsx/dist/cli.mjs');
  const { stdout } = await run(process.execPath, [tsx, '--conditions', '@peftjs/source', 'main.ts'], { cwd: project });
  expectRight(JSON.parse(stdout.trim().split('\n').at(-1) ?? '') as Exercised);
  expect.hasAssertions();
});
