import { mkdir, rename, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { memoryStorage, onWarning } from '@peftjs/core';
import { fromPretrained, hubFiles, saveMerged } from '@peftjs/models';
import { describe, expect, it } from 'vitest';
import { bertFiles, bertFolder } from '../models/bert-tiny.js';
import { BERT, bertRepo, filesAsked, filesBelow, FIRST, SECOND, text, useHub } from './harness.js';
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
      message: `${BERT}: revision 'main' is not in ${folder()}, and localFilesOnly is true: download it once without that`,
    });
    await fromPretrained(BERT);
    use.hub.seen.length = 0;
    expect((await fromPretrained(BERT, { localFilesOnly: true })).fingerprint).toBe(fingerprint);
    expect((await fromPretrained(BERT, { localFilesOnly: true, revision: FIRST })).fingerprint).toBe(fingerprint);
    process.env.HF_HUB_OFFLINE = '1';
    expect((await fromPretrained(BERT)).fingerprint).toBe(fingerprint);
    await expect(fromPretrained(BERT, { revision: 'v2' })).rejects.toThrow(
      `revision 'v2' is not in ${folder()}, and HF_HUB_OFFLINE is set: download it once without that`,
    );
    const { files, read } = await hubFiles({ repo: BERT });
    expect(files.map(({ path }) => path)).toEqual(['config.json', 'model.safetensors', 'tokenizer.json']);
    await expect(read('vocab.txt')).rejects.toThrow('no such file in the cache at');
    expect(use.hub.seen).toEqual([]);
  });

  it('may hold files that Python has downloaded', async () => {
    await asPythonLeavesIt();
    expect((await fromPretrained(BERT)).fingerprint).toBe(fingerprint);
    expect(filesAsked(use.hub)).toEqual([]);
    expect((await fromPretrained(BERT, { localFilesOnly: true })).fingerprint).toBe(fingerprint);
    const snapshot = join(folder(), `snapshots/${FIRST}`);
    await rename(join(snapshot, 'model.safetensors'), join(snapshot, 'pytorch_model.bin'));
    await expect(fromPretrained(BERT, { localFilesOnly: true })).rejects.toThrow('save the model as safetensors');
    await rename(join(snapshot, 'config.json'), join(snapshot, 'other.json'));
    await expect(fromPretrained(BERT, { localFilesOnly: true })).rejects.toThrow(
      /^no model in .*; only the cache was searched: load the model once without localFilesOnly and HF_HUB_OFFLINE/,
    );
  });

  it.each([
    ['cannot be reached', () => (process.env.HF_ENDPOINT = NOBODY)],
    ['is busy', () => use.hub.disturb(/\/revision\//, { status: 429, headers: { 'Retry-After': '99' } })],
  ])('is used if the hub %s, with a warning', async (what, prepare) => {
    await fromPretrained(BERT);
    prepare();
    const warnings: string[] = [];
    const restore = onWarning((message) => warnings.push(message));
    expect((await fromPretrained(BERT)).fingerprint).toBe(fingerprint);
    restore();
    expect(warnings).toEqual([`${BERT}: the hub ${what}; using the earlier download in ${folder()}`]);
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

describe('a branch in the cache', () => {
  const [files = {}] = Object.values(bertRepo().commits);
  const offline = { localFilesOnly: true };
  const moveTo = (commit: string): void => void Object.assign(use.hub.repos[0]?.refs ?? {}, { main: commit });

  /** Adds a second commit, with other weights. */
  function addCommit(): void {
    const other = weights.map((byte, index) => (index > 50_000 && index % 4 === 0 ? byte ^ 1 : byte));
    use.hub.repos.splice(
      0,
      1,
      bertRepo({ commits: { [FIRST]: files, [SECOND]: { ...files, 'model.safetensors': other } } }),
    );
  }

  it('is where it was last, also if all files were there', async () => {
    addCommit();
    await fromPretrained(BERT, { revision: FIRST });
    await fromPretrained(BERT);
    expect((await fromPretrained(BERT, offline)).commit).toBe(FIRST);
    for (const commit of [SECOND, FIRST]) {
      moveTo(commit);
      await fromPretrained(BERT);
      expect((await fromPretrained(BERT, offline)).commit).toBe(commit);
    }
  });

  it('only moves when the download is complete', async () => {
    addCommit();
    use.hub.disturb(/^\/[0-9a-f]{64}$/, { status: 404 });
    await expect(fromPretrained(BERT)).rejects.toMatchObject({ status: 404 });
    await expect(fromPretrained(BERT, offline)).rejects.toThrow(
      'it is not in the cache; load the model once without localFilesOnly and HF_HUB_OFFLINE, with the hub in reach',
    );
    await fromPretrained(BERT);
    moveTo(SECOND);
    use.hub.disturb(/^\/[0-9a-f]{64}$/, { status: 404 });
    await expect(fromPretrained(BERT)).rejects.toMatchObject({ status: 404 });
    expect((await fromPretrained(BERT, offline)).fingerprint).toBe(fingerprint);
  });

  it('need not be written if nothing is downloaded, e.g. to a cache that is read-only', async () => {
    await fromPretrained(BERT, { revision: FIRST });
    await writeFile(join(folder(), 'refs'), 'not a folder');
    expect((await fromPretrained(BERT)).fingerprint).toBe(fingerprint);
  });

  it('may move after a model was loaded, of which everything is still read at its commit', async () => {
    const settings: unknown = JSON.parse(new TextDecoder().decode(files['config.json']));
    const config = text(JSON.stringify({ ...(settings as object), layer_norm_eps: 0.5 }));
    use.hub.repos.splice(
      0,
      1,
      bertRepo({ commits: { [FIRST]: files, [SECOND]: { ...files, 'config.json': config } } }),
    );
    const model = await fromPretrained(BERT, { dtype: 'q8' });
    moveTo(SECOND);
    const whole = await model.fullPrecision?.();
    expect(whole).toMatchObject({ fingerprint, commit: FIRST });
    expect(whole?.revision).toBeUndefined(); // so that an adapter still names the branch
    const storage = memoryStorage();
    await saveMerged(whole ?? expect.fail(), 'out', { storage });
    expect((await fromPretrained('out', { storage })).fingerprint).toBe(fingerprint);
  });
});

describe('several loads at once', () => {
  it('work in one process', async () => {
    const models = await Promise.all(Array.from({ length: 4 }, () => fromPretrained(BERT)));
    expect(new Set(models.map((model) => model.fingerprint))).toEqual(new Set([fingerprint]));
    expect([...(await filesBelow(folder())).keys()].filter((path) => path.endsWith('incomplete'))).toEqual([]);
  });
});
