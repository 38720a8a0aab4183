import { cp, mkdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';
import { temporaryFolder } from '../../tools/vitest/temporary-folder.js';
import { peftBench } from './command.js';
import { resultsIn } from './results.js';
import { tinyTask } from './tiny-task.js';

const modules = fileURLToPath(new URL('../../node_modules', import.meta.url));

/* A third party's project outside the repository, with a method of its own and the packages that the method needs. */
describe('a method from a package outside the repository', () => {
  const project = temporaryFolder();
  beforeAll(async () => {
    await mkdir(join(project, 'node_modules'));
    for (const name of ['@peftjs', '@tensorflow', 'valibot']) {
      await symlink(join(modules, name), join(project, 'node_modules', name));
    }
    const theirs = fileURLToPath(new URL('./their-method', import.meta.url));
    await cp(theirs, join(project, 'node_modules/peft-method-theirs'), { recursive: true });
    await writeFile(join(project, 'package.json'), JSON.stringify({ dependencies: { 'peft-method-theirs': '1.2.3' } }));
  });

  it('is compared by its name, at the same budget, and is ranked', async () => {
    const flags = await tinyTask(project, 64);
    const run = await peftBench(['run', ...flags, '--method', 'lora,theirs', '--out', 'out'], { cwd: project });
    expect(run).toMatchObject({ code: 0, stderr: expect.stringMatching(/theirs r=2 .* met/) as string });
    const results = await resultsIn<object>(join(project, 'out'));
    const stored = { parameters: { stored: 768 }, budget: { requested: 768, met: true }, status: 'done' };
    expect(results).toMatchObject([
      { ...stored, method: 'lora' },
      { ...stored, method: 'theirs', versions: { 'peft-method-theirs': '1.2.3' } },
    ]);
  });

  it('can be named by its package, too, and is named in errors if it is broken or another is unknown', async () => {
    const flags = await tinyTask(project, 64);
    const train = ['train', ...flags, '--out', 'adapter', '--force', '--method'];
    const named = await peftBench([...train, 'peft-method-theirs'], { cwd: project });
    expect(named).toMatchObject({ code: 0, stderr: expect.stringContaining('theirs') as string });
    const index = join(project, 'node_modules/peft-method-theirs/index.js');
    await writeFile(index, 'export const theirs = { name: "theirs", adapt() {}, parseConfig() {} };');
    const broken = await peftBench([...train, 'theirs'], { cwd: project });
    expect(broken).toMatchObject({ code: 2, stderr: expect.stringMatching(/without toFile, fromFile/) as string });
    const unknown = await peftBench([...train, 'ours'], { cwd: project });
    expect(unknown).toMatchObject({ code: 2, stderr: expect.stringMatching(/known are .*theirs/) as string });
  });
});
