import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { attach, savePretrained } from '@peftjs/core';
import { toyModel } from '@peftjs/core/testing';
import { oft } from '@peftjs/oft';
import { expect, it } from 'vitest';

const model = toyModel();

it('is attached and saved as the README shows', async () => {
  const [before, folder] = [process.cwd(), await mkdtemp(join(tmpdir(), 'oft-'))];
  process.chdir(folder);
  try {
    // #region attach
    const peft = attach(model, oft({ oftBlockSize: 4 }));
    await savePretrained(peft, 'my-adapter'); // PEFT's OFT
    // #endregion attach
    expect(await readFile('my-adapter/adapter_config.json', 'utf8')).toContain('"peft_type": "OFT"');
  } finally {
    process.chdir(before);
    await rm(folder, { recursive: true });
  }
});
