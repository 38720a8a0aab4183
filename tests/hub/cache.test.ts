import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, readFile, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { onWarning } from '@peftjs/core';
import { fromPretrained, hubFiles } from '@peftjs/models';
import { describe, expect, it } from 'vitest';
import { bertFiles, bertFolder } from '../models/bert-tiny.js';
import { BERT, filesAsked, filesBelow, FIRST, useHub } from './harness.js';
import { etagOf } from './server.js';

const use = useHub();
const { fingerprint } = await fromPretrained(bertFolder);
const weights = bertFiles['model.safetensors'] as Uint8Array;
const STORED = /^\/[0-9a-f]{64}$/;
const NOBODY = 'http://127.0.0.1:9';
const folder = (): string => join(use.home, 'hub/models--peftjs-tests--bert-tiny');

/** The cache as Python's huggingface_hub 2.4 lays it out. */
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

describe('what is here', () => {
  it('is all that local_files_only reads; nobody is asked', async () => {
    await expect(fromPretrained(BERT, { local_files_only: true })).rejects.toMatchObject({
      code: 'PEFT_HUB',
      message: `${BERT}: nothing of revision 'main' is in ${folder()}: download it once without localFilesOnly`,
    });
    await fromPretrained(BERT);
    use.hub.seen.length = 0;
    expect((await fromPretrained(BERT, { localFilesOnly: true })).fingerprint).toBe(fingerprint);
    expect((await fromPretrained(BERT, { localFilesOnly: true, revision: FIRST })).fingerprint).toBe(fingerprint);
    process.env.HF_HUB_OFFLINE = '1';
    expect((await fromPretrained(BERT)).fingerprint).toBe(fingerprint);
    await expect(fromPretrained(BERT, { revision: 'v2' })).rejects.toThrow("nothing of revision 'v2'");
    const { files } = await hubFiles({ repo: BERT });
    expect(files.map(({ path }) => path)).toEqual(['config.json', 'model.safetensors', 'tokenizer.json']);
    expect(use.hub.seen).toEqual([]);
  });

  it('may be what Python has downloaded', async () => {
    await asPythonLeavesIt();
    expect((await fromPretrained(BERT)).fingerprint).toBe(fingerprint);
    expect(filesAsked(use.hub)).toEqual([]);
    expect((await fromPretrained(BERT, { localFilesOnly: true })).fingerprint).toBe(fingerprint);
  });

  it('is taken where the hub cannot be reached, with a warning', async () => {
    await fromPretrained(BERT);
    process.env.HF_ENDPOINT = NOBODY;
    const warnings: string[] = [];
    const restore = onWarning((message) => warnings.push(message));
    expect((await fromPretrained(BERT)).fingerprint).toBe(fingerprint);
    restore();
    expect(warnings).toEqual([
      `${BERT}: the hub cannot be reached; taken from ${folder()} as it was downloaded before`,
    ]);
  });

  it('is no help against a refusal', async () => {
    await fromPretrained(BERT);
    use.hub.disturb(/\/revision\//, { status: 403 });
    await expect(fromPretrained(BERT)).rejects.toMatchObject({ status: 403 });
  });

  it('and lost its end is brought anew', async () => {
    await fromPretrained(BERT);
    await truncate(join(folder(), 'blobs', etagOf(weights)), 1000);
    expect((await fromPretrained(BERT)).fingerprint).toBe(fingerprint);
    expect(filesAsked(use.hub).filter((path) => path === 'model.safetensors')).toHaveLength(2);
  });

  it('and lost its blob is brought anew', async () => {
    await fromPretrained(BERT);
    await rm(join(folder(), 'blobs', etagOf(weights)));
    expect((await fromPretrained(BERT)).fingerprint).toBe(fingerprint);
  });
});

describe('several at once', () => {
  it('in one process', async () => {
    const models = await Promise.all(Array.from({ length: 4 }, () => fromPretrained(BERT)));
    expect(new Set(models.map((model) => model.fingerprint))).toEqual(new Set([fingerprint]));
    expect([...(await filesBelow(folder())).keys()].filter((path) => path.endsWith('incomplete'))).toEqual([]);
  });

  it('in several processes', async () => {
    const children = await Promise.all([start(), start(), start()].map(ended));
    expect(children).toEqual(
      Array.from({ length: 3 }, () => ({ code: 0, stdout: String(weights.length), stderr: '' })),
    );
    expect([...(await filesBelow(folder())).keys()].filter((path) => path.endsWith('incomplete'))).toEqual([]);
    await expect(fromPretrained(BERT, { localFilesOnly: true })).rejects.toThrow(/no model in/); // weights alone are none
  });
});

/** The program that reads the weights, in a process of its own. */
function start(): ChildProcess {
  const child = fileURLToPath(new URL('cached-child.ts', import.meta.url));
  return spawn(process.execPath, ['--import', 'tsx', '--conditions', '@peftjs/source', child]);
}

function ended(child: ChildProcess): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const said = { stdout: '', stderr: '' };
  child.stdout?.on('data', (chunk: Buffer) => (said.stdout += chunk.toString()));
  child.stderr?.on('data', (chunk: Buffer) => (said.stderr += chunk.toString()));
  return new Promise((resolve) => child.on('close', (code) => resolve({ code, ...said })));
}

describe('a killed download', () => {
  it('leaves no half file, and the next one goes on from it', async () => {
    use.hub.disturb(STORED, { stallAfter: 90_000 });
    const child = start();
    const end = ended(child);
    const rest = (): Promise<Uint8Array | undefined> =>
      filesBelow(folder()).then(
        (files) => [...files].find(([path]) => path.endsWith('.incomplete'))?.[1],
        () => undefined,
      );
    await expect.poll(async () => (await rest())?.length, { timeout: 60_000 }).toBe(90_000);
    child.kill('SIGKILL');
    expect((await end).code).toBeNull();
    expect(existsSync(join(folder(), 'blobs', etagOf(weights)))).toBe(false);

    use.hub.seen.length = 0;
    expect((await fromPretrained(BERT)).fingerprint).toBe(fingerprint);
    expect(use.hub.seen.find(({ at }) => at === 'store')).toMatchObject({
      range: 'bytes=90000-',
      sent: weights.length - 90_000,
    });
    expect(await rest()).toBeUndefined();
  });

  it('is not taken from a process that goes on with it', async () => {
    use.hub.disturb(STORED, { stallAfter: 90_000 });
    const child = start();
    const end = ended(child);
    await expect.poll(() => use.hub.seen.filter(({ at }) => at === 'store').length, { timeout: 60_000 }).toBe(1);
    expect((await fromPretrained(BERT)).fingerprint).toBe(fingerprint);
    expect(use.hub.seen.filter(({ at }) => at === 'store').map(({ range }) => range)).toEqual([undefined, undefined]);
    child.kill('SIGKILL');
    await end;
  });
});

const python = process.env.PEFTJS_PYTHON ?? '';
const reason = python === '' ? 'PEFTJS_PYTHON names no interpreter' : `PEFTJS_PYTHON is ${python}`;

describe.skipIf(python === '')(`Python's huggingface_hub itself (${reason})`, () => {
  /** Runs Python beside the server of this process, which it is to ask. */
  async function run(code: string, environment: Record<string, string> = {}): Promise<string> {
    const child = spawn(python, ['-c', code], { env: { ...process.env, HF_HUB_DISABLE_XET: '1', ...environment } });
    const { code: status, stdout, stderr } = await ended(child);
    expect({ status, stderr: status === 0 ? '' : stderr }).toEqual({ status: 0, stderr: '' });
    return stdout.trim();
  }

  it('downloads what is found here', async () => {
    expect(existsSync(python)).toBe(true);
    await run(`from huggingface_hub import snapshot_download; snapshot_download('${BERT}')`);
    use.hub.seen.length = 0;
    expect((await fromPretrained(BERT)).fingerprint).toBe(fingerprint);
    expect(filesAsked(use.hub)).toEqual([]);
  });

  it('finds what was downloaded here', async () => {
    await fromPretrained(BERT);
    use.hub.seen.length = 0;
    const offline = { HF_HUB_OFFLINE: '1', HF_ENDPOINT: NOBODY };
    const path = await run(
      `from huggingface_hub import hf_hub_download; print(hf_hub_download('${BERT}', 'model.safetensors'))`,
      offline,
    );
    expect(new Uint8Array(await readFile(path))).toEqual(weights);
    const scanned = `from huggingface_hub import scan_cache_dir; i = scan_cache_dir(); r, = i.repos; print(r.repo_id, len(r.revisions), r.nb_files, list(r.refs), len(i.warnings))`;
    expect(await run(scanned, offline)).toBe(`${BERT} 1 3 ['main'] 0`);
    expect(use.hub.seen).toEqual([]);
    await run(`from huggingface_hub import hf_hub_download; hf_hub_download('${BERT}', 'model.safetensors')`);
    expect(use.hub.seen.filter(({ at }) => at === 'store')).toEqual([]);
  });
});
