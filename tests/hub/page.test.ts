import { readdir } from 'node:fs/promises';
import { memoryStorage, onWarning } from '@peftjs/core';
import { fromPretrained, hubFiles } from '@peftjs/models';
import { caches, install } from 'undici';
import { afterEach, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { bertFiles, bertFolder } from '../models/bert-tiny.js';
import { BERT, bertRepo, filesAsked, FIRST, useHub } from './harness.js';
import { inShards } from './shards.js';

const use = useHub();
const { fingerprint } = await fromPretrained(bertFolder);
const weights = bertFiles['model.safetensors'] as Uint8Array;
const web = { fetch, Response, Headers, Request, FormData };

/** A page has a document, and no environment variables. */
beforeEach(() => {
  process.env.HF_TOKEN = 'hf_onlyForThisTest123';
  Object.assign(globalThis, { document: {} });
});

afterEach(() => {
  Reflect.deleteProperty(globalThis, 'document');
  Reflect.deleteProperty(globalThis, 'caches');
  Object.assign(globalThis, web);
});

/** HF_ENDPOINT has no effect in a page. */
const from = () => ({ hubUrl: use.hub.url });

describe('in a page', () => {
  it('files are kept in memory; the token is only sent to the hub, and nothing is written', async () => {
    const model = await fromPretrained(BERT, from());
    expect(model.fingerprint).toBe(fingerprint);
    expect(use.hub.seen.length).toBeGreaterThan(4);
    expect(use.hub.seen.filter(({ authorization }) => authorization !== undefined)).toEqual([]);
    expect(await readdir(use.home)).toEqual([]);
    await expect(fromPretrained(BERT, { ...from(), localFilesOnly: true })).rejects.toThrow(
      "revision 'main' is not in",
    );
  });

  it('files are kept in its Cache API if there is one', async () => {
    install();
    Object.assign(globalThis, { caches });
    const { 'model.safetensors': whole, ...rest } = bertFiles as Record<string, Uint8Array>;
    const shards = inShards(whole ?? new Uint8Array());
    use.hub.repos.splice(0, 1, bertRepo({ commits: { [FIRST]: { ...rest, ...shards } } }));
    expect((await fromPretrained(BERT, from())).fingerprint).toBe(fingerprint);
    use.hub.seen.length = 0;
    expect((await fromPretrained(BERT, from())).fingerprint).toBe(fingerprint);
    expect(filesAsked(use.hub)).toEqual([]);
    expect((await fromPretrained(BERT, { ...from(), localFilesOnly: true })).fingerprint).toBe(fingerprint);
    const { files } = await hubFiles({ repo: BERT, ...from(), localFilesOnly: true });
    expect(files.map(({ path }) => path).sort()).toEqual([...Object.keys(rest), ...Object.keys(shards)].sort());
  });

  const refused = (name: string) => Promise.reject(new DOMException('refused', name));
  const full = {
    match: () => Promise.resolve(undefined),
    keys: () => Promise.resolve([]),
    put: () => refused('QuotaExceededError'),
  };
  it.each<[string, PropertyDescriptor, string[]]>([
    [
      'may not be read, in a sandboxed frame',
      {
        get() {
          throw new DOMException('refused', 'SecurityError');
        },
      },
      [],
    ],
    ['may not be opened', { value: { open: () => refused('SecurityError') } }, []],
    [
      'is full, with a warning',
      { value: { open: () => Promise.resolve(full) } },
      [
        "the page's cache refuses files (QuotaExceededError: refused): they are kept in memory, and downloaded again next time",
      ],
    ],
  ])('files are kept in memory if its Cache API %s', async (_, property, expected) => {
    Object.defineProperty(globalThis, 'caches', { configurable: true, ...property });
    const warnings: string[] = [];
    const restore = onWarning((message) => warnings.push(message));
    expect((await fromPretrained(BERT, from())).fingerprint).toBe(fingerprint);
    restore();
    expect(warnings).toEqual(expected);
    use.hub.seen.length = 0;
    const files = await hubFiles({ repo: BERT, ...from() });
    for (const bytes of [await files.read('config.json'), await files.read('config.json')]) {
      expect(bytes).toEqual(bertFiles['config.json']);
    }
    expect(filesAsked(use.hub)).toEqual(['config.json']);
  });

  it('broken connections are resumed, and damaged files rejected', async () => {
    use.hub.disturb(/^\/[0-9a-f]{64}$/, { cutAfter: 40_000 });
    expect((await fromPretrained(BERT, from())).fingerprint).toBe(fingerprint);
    use.hub.disturb(/^\/[0-9a-f]{64}$/, { content: new Uint8Array(weights.length) });
    await expect(fromPretrained(BERT, from())).rejects.toThrow(/model\.safetensors: expected SHA-256/);
    use.hub.disturb(/config\.json$/, { content: new Uint8Array(bertFiles['config.json']?.length ?? 0) });
    await expect(fromPretrained(BERT, from())).rejects.toThrow(/config\.json: expected git's SHA-1/);
  });

  it('an error after five broken connections promises nothing: no part of the file is kept', async () => {
    const { setTimeout } = globalThis;
    vi.stubGlobal('setTimeout', (act: () => void, ms = 0, ...given: []) => setTimeout(act, ms / 10, ...given));
    onTestFinished(() => void vi.unstubAllGlobals());
    use.hub.disturb(/config\.json$/, ...Array.from({ length: 5 }, () => ({ cutAfter: 1 })));
    await expect(fromPretrained(BERT, from())).rejects.toThrow(
      /cut 5 times \(.+\) at \d+ of \d+ bytes; load it again$/,
    );
  });

  it('folders of a storage come first', async () => {
    const files = new Map(Object.entries(bertFiles).map(([name, bytes]) => [`${BERT}/${name}`, bytes]));
    expect((await fromPretrained(BERT, { storage: memoryStorage(files) })).fingerprint).toBe(fingerprint);
    expect(use.hub.seen).toEqual([]);
  });
});
