import { mkdir, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { onWarning } from '@peftjs/core';
import { fromPretrained, hubFiles } from '@peftjs/models';
import { describe, expect, it } from 'vitest';
import { bertFiles, bertFolder } from '../models/bert-tiny.js';
import { BERT, filesAsked, filesBelow, FIRST, useHub } from './harness.js';
import { etagOf } from './server.js';

const use = useHub();
const { fingerprint } = await fromPretrained(bertFolder);
const weights = bertFiles['model.safetensors'] as Uint8Array;
const NOBODY = 'http://127.0.0.1:9';
const folder = (): string => join(use.home, 'hub/models--peftjs-tests--bert-tiny');

/** The cache in the layout of Python's huggingface_hub 2.4. */
async function asPythonLeavesIt(): Promise<void> {
  await Promise.all(
    ['blobs', 'refs', `snapshots/${FIRST}`].map((name) => mkdir(join(folder(), name), { recursive: true })),
  );
  await writeFile(join(folder(), 'refs/main'), FIRST);
  for (const [name, bytes] of Object.entries(bertFiles)) {
    await writeFile(join(folder(), 'blobs', etagOf(bytes)), bytes);
    await symlink(`../../blobs/${etagOf(bytes)}`, join(folder(), `snapshots/${FIRST}`, name));
  }
}

describe('the cache', () => {
  it('is all that local_files_only reads, without requests', async () => {
    await expect(fromPretrained(BERT, { local_files_only: true })).rejects.toMatchObject({
      code: 'PEFT_HUB',
      message: `${BERT}: revision 'main' is not in ${folder()}: download it once without localFilesOnly`,
    });
    await fromPretrained(BERT);
    use.hub.seen.length = 0;
    expect((await fromPretrained(BERT, { localFilesOnly: true })).fingerprint).toBe(fingerprint);
    expect((await fromPretrained(BERT, { localFilesOnly: true, revision: FIRST })).fingerprint).toBe(fingerprint);
    process.env.HF_HUB_OFFLINE = '1';
    expect((await fromPretrained(BERT)).fingerprint).toBe(fingerprint);
    await expect(fromPretrained(BERT, { revision: 'v2' })).rejects.toThrow("revision 'v2' is not in");
    const { files } = await hubFiles({ repo: BERT });
    expect(files.map(({ path }) => path)).toEqual(['config.json', 'model.safetensors', 'tokenizer.json']);
    expect(use.hub.seen).toEqual([]);
  });

  it('may hold files that Python has downloaded', async () => {
    await asPythonLeavesIt();
    expect((await fromPretrained(BERT)).fingerprint).toBe(fingerprint);
    expect(filesAsked(use.hub)).toEqual([]);
    expect((await fromPretrained(BERT, { localFilesOnly: true })).fingerprint).toBe(fingerprint);
  });

  it('is used if the hub cannot be reached, with a warning', async () => {
    await fromPretrained(BERT);
    process.env.HF_ENDPOINT = NOBODY;
    const warnings: string[] = [];
    const restore = onWarning((message) => warnings.push(message));
    expect((await fromPretrained(BERT)).fingerprint).toBe(fingerprint);
    restore();
    expect(warnings).toEqual([`${BERT}: the hub cannot be reached; using the earlier download in ${folder()}`]);
  });

  it('is not used if the hub refuses access', async () => {
    await fromPretrained(BERT);
    use.hub.disturb(/\/revision\//, { status: 403 });
    await expect(fromPretrained(BERT)).rejects.toMatchObject({ status: 403 });
  });

  it('downloads a truncated file again', async () => {
    await fromPretrained(BERT);
    await truncate(join(folder(), 'blobs', etagOf(weights)), 1000);
    expect((await fromPretrained(BERT)).fingerprint).toBe(fingerprint);
    expect(filesAsked(use.hub).filter((path) => path === 'model.safetensors')).toHaveLength(2);
  });

  it('downloads a file without its blob again', async () => {
    await fromPretrained(BERT);
    await rm(join(folder(), 'blobs', etagOf(weights)));
    expect((await fromPretrained(BERT)).fingerprint).toBe(fingerprint);
  });
});

describe('several loads at once', () => {
  it('work in one process', async () => {
    const models = await Promise.all(Array.from({ length: 4 }, () => fromPretrained(BERT)));
    expect(new Set(models.map((model) => model.fingerprint))).toEqual(new Set([fingerprint]));
    expect([...(await filesBelow(folder())).keys()].filter((path) => path.endsWith('incomplete'))).toEqual([]);
  });
});
