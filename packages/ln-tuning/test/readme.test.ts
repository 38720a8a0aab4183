import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { attach, savePretrained } from '@peftjs/core';
import { toyModel } from '@peftjs/core/testing';
import { lnTuning } from '@peftjs/ln-tuning';
import { expect, it } from 'vitest';

const model = toyModel();

it('is attached and saved as the README shows', async () => {
  const [before, folder] = [process.cwd(), await mkdtemp(join(tmpdir(), 'ln-tuning-'))];
  process.chdir(folder);
  try {
    // #region attach
    const peft = attach(model, lnTuning());
    await savePretrained(peft, 'my-adapter'); // PEFT's LN_TUNING
    // #endregion attach
    expect(await readFile('my-adapter/adapter_config.json', 'utf8')).toContain('"peft_type": "LN_TUNING"');
  } finally {
    process.chdir(before);
    await rm(folder, { recursive: true });
  }
});
