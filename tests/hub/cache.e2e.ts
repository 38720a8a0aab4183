import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { fromPretrained } from '@peftjs/models';
import { describe, expect, it } from 'vitest';
import { bertFiles, bertFolder } from '../models/bert-tiny.js';
import { BERT, filesAsked, filesBelow, useHub } from './harness.js';
import { etagOf } from './server.js';

const use = useHub();
const { fingerprint } = await fromPretrained(bertFolder);
const weights = bertFiles['model.safetensors'] as Uint8Array;
const STORED = /^\/[0-9a-f]{64}$/;
const NOBODY = 'http://127.0.0.1:9';
const folder = (): string => join(use.home, 'hub/models--peftjs-tests--bert-tiny');

describe('several loads at once', () => {
  it('work in several processes', async () => {
    const children = await Promise.all([start(), start(), start()].map(ended));
    expect(children).toEqual(
      Array.from({ length: 3 }, () => ({ code: 0, stdout: String(weights.length), stderr: '' })),
    );
    expect([...(await filesBelow(folder())).keys()].filter((path) => path.endsWith('incomplete'))).toEqual([]);
    await expect(fromPretrained(BERT, { localFilesOnly: true })).rejects.toThrow(/no model in/); // weights alone are not a model
  });
});

/** The program that reads the weights in a separate process. */
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
  it('leaves no partial file in the snapshot, and the next download resumes it', async () => {
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

  it('is not taken over from a process that is still alive', async () => {
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

describe.skipIf(python === '')(`Python's real huggingface_hub (${reason})`, () => {
  /** Runs Python, which uses the server of this process. */
  async function run(code: string, environment: Record<string, string> = {}): Promise<string> {
    const child = spawn(python, ['-c', code], { env: { ...process.env, HF_HUB_DISABLE_XET: '1', ...environment } });
    const { code: status, stdout, stderr } = await ended(child);
    expect({ status, stderr: status === 0 ? '' : stderr }).toEqual({ status: 0, stderr: '' });
    return stdout.trim();
  }

  it('downloads files that are found here', async () => {
    expect(existsSync(python)).toBe(true);
    await run(`from huggingface_hub import snapshot_download; snapshot_download('${BERT}')`);
    use.hub.seen.length = 0;
    expect((await fromPretrained(BERT)).fingerprint).toBe(fingerprint);
    expect(filesAsked(use.hub)).toEqual([]);
  });

  it('finds files that were downloaded here', async () => {
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
