import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { DataError } from '@peftjs/core/method';
import { assertInputs } from './folders.js';

let folder = '';
const at = (name: string): string => join(folder, name);
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'peft-bench-inputs-'));
  for (const name of ['reviews.csv', 'nb.json']) writeFileSync(at(name), '');
});
afterAll(() => {
  rmSync(folder, { recursive: true });
});

describe('the files that flags name', () => {
  it('are accepted if they exist', () => {
    assertInputs({});
    assertInputs({ train: at('reviews.csv'), data: folder });
  });

  it('are all listed if they are missing, with the nearest name in their folder', () => {
    const flags = { train: at('review.csv'), dev: 'gone/dev.csv', config: at('x.json'), data: at('tasks') };
    const expected = `no such file or folder: --config ${at('x.json')}, --train ${at('review.csv')} (did you mean 'reviews.csv'?), --dev gone/dev.csv, --data ${at('tasks')}`;
    expect(() => {
      assertInputs(flags);
    }).toThrow(new DataError(expected, at('x.json')));
  });

  it('include the folder of --spread-from', () => {
    expect(() => {
      assertInputs({ spreadFrom: at('nosuch') });
    }).toThrow(`no such file or folder: --spread-from ${at('nosuch')}`);
    expect(() => {
      assertInputs({ spreadFrom: at('reviews.csv') });
    }).toThrow(`--spread-from ${at('reviews.csv')} is a file, expected a folder`);
  });

  it.each([
    ['train', 'folder, expected a file; to use the files in it: --data'],
    ['dev', 'folder, expected a file'],
    ['data', 'file, expected a folder; to train on it: --train'],
  ])('must not be a folder instead of a file, or the reverse: --%s', (flag, message) => {
    const path = flag === 'data' ? at('reviews.csv') : folder;
    expect(() => {
      assertInputs({ [flag]: path });
    }).toThrow(`--${flag} ${path} is a ${message}`);
  });
});
