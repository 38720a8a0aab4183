import { cp, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { memoryStorage } from '@peftjs/core';
import { CheckpointError } from '@peftjs/core/method';
import { fromPretrained } from '@peftjs/models';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { bertFolder } from '../models/bert-tiny.js';
import { packageName } from '../models/use-lite.js';
import { BERT, useHub } from './harness.js';

const use = useHub();
const { fingerprint } = await fromPretrained(bertFolder);
const here = process.cwd();

beforeEach(() => {
  process.chdir(use.home);
});

afterEach(() => {
  process.chdir(here);
});

describe('a source of fromPretrained', () => {
  it('is a folder if there is one, whatever the hub has', async () => {
    await cp(bertFolder, BERT, { recursive: true });
    expect((await fromPretrained(BERT)).fingerprint).toBe(fingerprint);
    expect((await fromPretrained(join(use.home, BERT))).fingerprint).toBe(fingerprint);
    expect(use.hub.seen).toEqual([]);
  });

  it('is never on the hub if there is a folder without a model', async () => {
    await mkdir(BERT, { recursive: true });
    await expect(fromPretrained(BERT)).rejects.toThrow(`no model in ${BERT}: expected config.json`);
    await writeFile('a-file', 'x');
    await expect(fromPretrained('a-file')).rejects.toThrow(CheckpointError);
    expect(use.hub.seen).toEqual([]);
  });

  it('is a package if it is named like one; subfolders count', async () => {
    const options = { numLabels: 2 };
    const whole = await fromPretrained(packageName, options);
    expect((await fromPretrained(packageName, { ...options, subfolder: 'dist' })).fingerprint).toBe(whole.fingerprint);
    await expect(fromPretrained(packageName, { subfolder: 'src' })).rejects.toThrow(
      /model-embeddings-en\/src: expected/,
    );
    expect(use.hub.seen).toEqual([]);
  });

  it('is a model on the hub if it is named organisation/name', async () => {
    expect((await fromPretrained(BERT)).fingerprint).toBe(fingerprint);
    expect((await fromPretrained(BERT, { storage: memoryStorage() })).fingerprint).toBe(fingerprint);
    expect(use.hub.seen.length).toBeGreaterThan(0);
  });

  it.each([
    '@scope/none',
    'bert-tiny',
    './peftjs-tests/bert-tiny',
    'a/b/c',
    '../x',
    'a--b/c',
    'a/.b',
    'a/b.git',
    '/a/b',
    'a/b/',
  ])('is not on the hub for %s', async (source) => {
    await expect(fromPretrained(source)).rejects.toThrow(CheckpointError);
    expect(use.hub.seen).toEqual([]);
  });

  it('that is not found gives an error that lists all three', async () => {
    await expect(fromPretrained('none')).rejects.toThrow(
      "no model 'none': expected a folder with a model, an installed npm package or a hub id, organisation/name; if you mean the npm package of that name and trust it: npm install none",
    );
    await expect(fromPretrained('peftjs-tests/none')).rejects.toThrow(
      /^there is no folder 'peftjs-tests\/none', and on the hub/,
    );
  });
});
