import { readFileSync } from 'node:fs';
import { memoryStorage, onWarning, type Storage } from '@peftjs/core';
import { exportOnnx } from '@peftjs/engine';
import { fromPretrained, saveMerged, saveOnnx, type ProgressInfo } from '@peftjs/models';
import { beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { bertFiles, bertFolder } from '../models/bert-tiny.js';
import { BERT, bertRepo, filesAsked, FIRST, text, useHub } from './harness.js';

const use = useHub();

/** A tokenizer's files other than tokenizer.json, as AutoTokenizer writes them. */
const BESIDE: Readonly<Record<string, Uint8Array>> = {
  'tokenizer_config.json': new Uint8Array(readFileSync(`${bertFolder}/tokenizer_config.json`)),
  'special_tokens_map.json': text('{"pad_token": "[PAD]", "unk_token": "[UNK]"}'),
  'vocab.txt': text('[PAD]\n[UNK]\n'),
  'merges.txt': text('#version: 0.2\n'),
};
const NAMES = Object.keys(BESIDE).sort();

beforeEach(() => {
  const [main] = Object.values(bertRepo().commits);
  use.hub.repos.splice(0, 1, bertRepo({ commits: { [FIRST]: { ...main, ...BESIDE } } }));
});

/** The tokenizer files of an export other than tokenizer.json. */
async function exported(write: (storage: Storage) => Promise<void>): Promise<Map<string, Uint8Array>> {
  const storage = memoryStorage();
  await write(storage);
  const files = [...storage.files].map(([path, bytes]) => [path.replace('out/', ''), bytes] as const);
  return new Map(files.filter(([name]) => NAMES.includes(name)).sort(([a], [b]) => (a < b ? -1 : 1)));
}

const merged = () =>
  exported(async (storage) => {
    await saveMerged(await fromPretrained(BERT), 'out', { storage });
  });

const onnx = () =>
  exported(async (storage) => {
    const model = await fromPretrained(BERT);
    await saveOnnx(model, await exportOnnx(model), 'out', { storage, maxTokens: 16 });
  });

describe('the files of a tokenizer on the hub', () => {
  it.each([
    ['a merged model', merged],
    ['a model as ONNX', onnx],
  ])('are copied to %s byte for byte, and again without the hub', async (_, write) => {
    const first = await write();
    expect([...first.keys()]).toEqual(NAMES);
    for (const name of NAMES.filter((one) => one !== 'tokenizer_config.json'))
      expect(first.get(name)).toEqual(BESIDE[name]);
    process.env.HF_HUB_OFFLINE = '1';
    use.hub.seen.length = 0;
    expect(await write()).toEqual(first);
    expect(use.hub.seen).toEqual([]);
  });

  it('are downloaded with the model, once, so that an export needs no hub', async () => {
    const model = await fromPretrained(BERT);
    const needed = [...Object.keys(bertFiles), ...NAMES].sort();
    expect(filesAsked(use.hub).sort()).toEqual(needed);
    process.env.HF_ENDPOINT = 'http://127.0.0.1:9';
    process.env.HF_HUB_OFFLINE = '1';
    expect([...(await exported((storage) => saveMerged(model, 'out', { storage }))).keys()]).toEqual(NAMES);
  });

  it('are counted in the progress from the first event on', async () => {
    const events: ProgressInfo[] = [];
    await fromPretrained(BERT, { progressCallback: (info) => events.push(info) });
    const totals = events.flatMap((event) => (event.status === 'progress_total' ? [event.total] : []));
    const sizes = Object.values({ ...bertFiles, ...BESIDE }).map(({ length }) => length);
    expect(new Set(totals)).toEqual(new Set([sizes.reduce((sum, size) => sum + size, 0)]));
  });

  it('include those of sentence-transformers, so that an embedding model needs no hub either', async () => {
    const json = (content: unknown) => text(JSON.stringify(content));
    const type = (kind: string) => ({ type: `sentence_transformers.models.${kind}`, path: `1_${kind}` });
    const embedder = {
      'modules.json': json(['Transformer', 'Pooling'].map(type)),
      '1_Pooling/config.json': json({ pooling_mode_cls_token: true }),
      'sentence_roberta_config.json': json({ max_seq_length: 7 }),
      'config_sentence_transformers.json': json({ prompts: { query: 'q: ' } }),
    };
    const embedding = { task: 'feature-extraction', localFilesOnly: true } as const;
    const warnings: string[] = [];
    onTestFinished(onWarning((message) => warnings.push(message)));
    await fromPretrained(BERT);
    expect((await fromPretrained(BERT, embedding)).pooling?.pooling).toBe('mean');
    expect(warnings).toEqual([expect.stringContaining(`${BERT}/modules.json is not in the cache. If the model is`)]);
    use.hub.repos.splice(0, 1, bertRepo({ commits: { [FIRST]: { ...bertFiles, ...embedder } } }));
    await fromPretrained(BERT);
    expect(await fromPretrained(BERT, embedding)).toMatchObject({
      pooling: { pooling: 'cls' },
      maxTokens: 7,
      prompts: { query: 'q: ' },
    });
  });

  it('may be listed but missing', async () => {
    const gone = { status: 404, headers: { 'X-Error-Code': 'EntryNotFound' } };
    use.hub.disturb(/\/vocab\.txt$/, gone, gone);
    expect([...(await merged()).keys()]).toEqual(NAMES.filter((name) => name !== 'vocab.txt'));
  });

  it('are rejected like others if they are damaged', async () => {
    use.hub.disturb(/\/merges\.txt$/, { content: text('#version: 6.6\n') });
    await expect(fromPretrained(BERT)).rejects.toThrow(/merges\.txt: expected git's SHA-1/);
  });

  it('are those next to the model', async () => {
    const deep = Object.entries({ ...bertFiles, 'vocab.txt': text('deep') }).map(([name, bytes]) => [
      `deep/${name}`,
      bytes,
    ]);
    const commits = { [FIRST]: { ...Object.fromEntries(deep), ...BESIDE } as Record<string, Uint8Array> };
    use.hub.repos.splice(0, 1, bertRepo({ commits }));
    const model = await fromPretrained(BERT, { subfolder: 'deep' });
    const files = await exported((storage) => saveMerged(model, 'out', { storage, subfolder: 'deep' }));
    expect(files).toEqual(new Map([['vocab.txt', text('deep')]]));
    expect(filesAsked(use.hub).every((path) => path.startsWith('deep/'))).toBe(true);
  });
});
