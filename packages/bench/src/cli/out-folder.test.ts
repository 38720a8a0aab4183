import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { checkOut } from './out-folder.js';

let top = '';
beforeAll(async () => {
  top = await mkdtemp(join(tmpdir(), 'peft-bench-out-'));
});
afterAll(() => rm(top, { recursive: true }));

async function folderWith(...names: readonly string[]): Promise<string> {
  const out = await mkdtemp(join(top, 'out-'));
  for (const name of names) {
    if (name.endsWith('/')) await mkdir(join(out, name));
    else await writeFile(join(out, name), '');
  }
  return out;
}

describe('resumes what a killed run left behind:', () => {
  it.each([[['.lock']], [['checkpoints/']], [['run.json.k3x9.tmp']], [['checkpoints/', 'results/', 'run.json']]])(
    '%o',
    async (names) => {
      const out = await folderWith(...names);
      expect(() => {
        checkOut({ out }, 'results');
      }).not.toThrow();
    },
  );
});

it('refuses a folder with other files, unless forced', async () => {
  const out = await folderWith('thesis.tex', '.lock');
  expect(() => {
    checkOut({ out }, 'results');
  }).toThrow('holds other files (thesis.tex); name another folder for the results, or add --force');
  expect(() => {
    checkOut({ out, force: true }, 'results');
  }).not.toThrow();
});
