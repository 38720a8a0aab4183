import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { checkOut } from './folders.js';

let top = '';
beforeAll(async () => {
  top = await mkdtemp(join(tmpdir(), 'peft-bench-out-'));
});
afterAll(() => rm(top, { recursive: true }));

async function folderWith(...names: readonly string[]): Promise<string> {
  const out = await mkdtemp(join(top, 'out-'));
  for (const name of names) {
    await mkdir(join(out, name.endsWith('/') ? name : dirname(name)), { recursive: true });
    if (!name.endsWith('/')) await writeFile(join(out, name), '');
  }
  return out;
}

describe('resumes what a killed run left behind:', () => {
  it.each([
    [['.lock']],
    [['.lock', 'results/']],
    [['checkpoints/']],
    [['run.json.k3x9.tmp']],
    [['checkpoints/', 'results/', 'run.json']],
    [['results/lora-rte-r_4-s1-0123456789ab.json', 'summary.json', 'notes.txt']],
    [['results/', 'checkpoints/lora-rte-r_4-s1-0123456789ab.safetensors']],
    [['results/', 'tuning/results/lora-rte-r_4-s1001-0123456789ab.json', 'tuning.json']],
  ])('%o', async (names) => {
    const out = await folderWith(...names);
    expect(() => {
      checkOut({ out }, 'results');
    }).not.toThrow();
  });
});

it.each([[['results/table.csv']], [['results/', 'checkpoints/', 'thesis.tex']], [['checkpoints/model.safetensors']]])(
  'refuses a folder that only has names of a run: %o',
  async (names) => {
    const out = await folderWith(...names);
    expect(() => {
      checkOut({ out }, 'results');
    }).toThrow(/holds other files \((?:checkpoints|results)/);
  },
);

it('refuses a folder with other files, unless forced', async () => {
  const out = await folderWith('thesis.tex', '.lock');
  expect(() => {
    checkOut({ out }, 'results');
  }).toThrow('holds other files (thesis.tex); name another folder for the results, or add --force');
  expect(() => {
    checkOut({ out, force: true }, 'results');
  }).not.toThrow();
});
