import { readlink, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { attach, memoryStorage, savePretrained } from '@peftjs/core';
import { lora } from '@peftjs/lora';
import { fromPretrained, hubFiles, saveMerged, type ProgressInfo } from '@peftjs/models';
import { readHubGlue, readHubTrec } from '@peftjs/tasks';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { bertFiles, bertFolder } from '../models/bert-tiny.js';
import { BERT, bertRepo, filesAsked, filesBelow, FIRST, SECOND, text, useHub } from './harness.js';
import { etagOf, hashesOf } from './server.js';
import { inShards } from './shards.js';

const use = useHub();
const { fingerprint } = await fromPretrained(bertFolder);
const weights = bertFiles['model.safetensors'] as Uint8Array;
const TOKEN = 'hf_onlyForThisTest123';

describe('a model on the hub', () => {
  it('equals the model of a folder; only the needed files are downloaded, once', async () => {
    const model = await fromPretrained(BERT);
    expect(model.fingerprint).toBe(fingerprint);
    expect(model.name).toBe(BERT);
    expect(filesAsked(use.hub).sort()).toEqual(['config.json', 'model.safetensors', 'tokenizer.json']);
    use.hub.seen.length = 0;
    expect((await fromPretrained(BERT)).fingerprint).toBe(fingerprint);
    expect(filesAsked(use.hub)).toEqual([]);
    expect(use.hub.seen).toHaveLength(2); // the commit, and its list of files
  });

  it('may be in shards, and in a subfolder', async () => {
    const parts = inShards(weights);
    const { 'config.json': config, 'tokenizer.json': tokenizer } = bertFiles as Record<string, Uint8Array>;
    const files = Object.entries({ 'config.json': config, 'tokenizer.json': tokenizer, ...parts });
    const commits = {
      [FIRST]: Object.fromEntries(files.map(([path, bytes]) => [`deep/er/${path}`, bytes as Uint8Array])),
    };
    use.hub.repos.splice(0, 1, bertRepo({ commits }));
    const model = await fromPretrained(BERT, { subfolder: 'deep/er' });
    expect(model.fingerprint).toBe(fingerprint);
    const exported = memoryStorage();
    await saveMerged(model, 'out', { storage: exported });
    expect(exported.files.get('out/tokenizer.json')).toEqual(tokenizer);
    await expect(fromPretrained(BERT)).rejects.toThrow(`no model in ${BERT}: expected config.json`);
    const message = /'subfolder' is '\.\.\/er'; expected a folder below in letters, .*, such as 'dist', or ''$/;
    await expect(fromPretrained(BERT, { subfolder: '../er' })).rejects.toThrow(message);
  });

  it('is that of the revision; for a commit, no revision is requested', async () => {
    const config = text(
      JSON.stringify({ ...JSON.parse(new TextDecoder().decode(bertFiles['config.json'])), layer_norm_eps: 1e-3 }),
    );
    const { commits } = bertRepo();
    const changed = { ...commits, [SECOND]: { ...commits[FIRST], 'config.json': config } };
    use.hub.repos.splice(0, 1, bertRepo({ refs: { main: FIRST, 'pr-1': SECOND }, commits: changed }));
    const other = await fromPretrained(BERT, { revision: 'pr-1' });
    expect(other.fingerprint).not.toBe(fingerprint);
    expect((await fromPretrained(BERT)).fingerprint).toBe(fingerprint);
    expect(filesAsked(use.hub).filter((path) => path === 'model.safetensors')).toHaveLength(1); // both revisions have it
    const [exported, adapted] = [memoryStorage(), memoryStorage()];
    await saveMerged(other, 'out', { storage: exported });
    const settings: unknown = JSON.parse(new TextDecoder().decode(await exported.read('out/config.json')));
    expect(settings).toMatchObject({ layer_norm_eps: 1e-3 });
    await savePretrained(attach(other, lora({ r: 2 })), 'own', { storage: adapted });
    const named: unknown = JSON.parse(new TextDecoder().decode(await adapted.read('own/adapter_config.json')));
    expect(named).toMatchObject({ base_model_name_or_path: BERT, revision: 'pr-1' });
    use.hub.seen.length = 0;
    expect((await fromPretrained(BERT, { revision: SECOND })).fingerprint).toBe(other.fingerprint);
    expect(use.hub.seen.map(({ path }) => path)).toEqual([`/api/models/${BERT}/tree/${SECOND}`]);
  });

  it('may be a GGUF file, the only one that is downloaded', async () => {
    const bytes = await readFile(new URL('../models/fixtures/gguf/qwen2.gguf', import.meta.url));
    const files = { 'small.gguf': new Uint8Array(bytes), 'large.gguf': new Uint8Array(9) };
    use.hub.repos.splice(0, 1, bertRepo({ commits: { [FIRST]: files } }));
    const model = await fromPretrained(`${BERT}/small.gguf`, { task: 'causal-lm' });
    expect(model.name).toBe(`${BERT}/small.gguf`);
    expect(filesAsked(use.hub)).toEqual(['small.gguf']);
    await expect(fromPretrained(`${BERT}/none.gguf`)).rejects.toMatchObject({
      code: expect.stringMatching(/^PEFT_/) as string,
    });
  });

  it('follows its branch', async () => {
    await fromPretrained(BERT);
    const { commits } = bertRepo();
    const moved = {
      [FIRST]: commits[FIRST] ?? {},
      [SECOND]: { ...commits[FIRST], 'tokenizer.json': bertFiles['tokenizer.json'] as Uint8Array },
    };
    use.hub.repos.splice(0, 1, bertRepo({ refs: { main: SECOND }, commits: moved }));
    use.hub.seen.length = 0;
    expect((await fromPretrained(BERT)).fingerprint).toBe(fingerprint);
    expect(filesAsked(use.hub)).toEqual([]); // the same bytes
    expect(await readFile(join(cacheOf(), 'refs/main'), 'utf8')).toBe(SECOND);
  });

  it('provides settings and tokenizer for exports', async () => {
    const storage = memoryStorage();
    await saveMerged(await fromPretrained(BERT), 'out', { storage });
    expect(storage.files.has('out/tokenizer.json')).toBe(true);
    expect((await fromPretrained('out', { storage })).fingerprint).toBe(fingerprint);
  });
});

/** The folder of the small BERT in the cache. */
function cacheOf(): string {
  return join(use.home, 'hub/models--peftjs-tests--bert-tiny');
}

describe('the cache', () => {
  it("has the layout of Python's huggingface_hub", async () => {
    await fromPretrained(BERT);
    const etag = etagOf(weights);
    expect(etag).toBe(hashesOf(weights).sha256);
    expect(await readlink(join(cacheOf(), `snapshots/${FIRST}/model.safetensors`))).toBe(`../../blobs/${etag}`);
    expect(await readFile(join(cacheOf(), 'refs/main'), 'utf8')).toBe(FIRST);
    const names = [...(await filesBelow(cacheOf())).keys()];
    const blobs = ['config.json', 'model.safetensors', 'tokenizer.json'].map(
      (name) => `blobs/${etagOf(bertFiles[name] as Uint8Array)}`,
    );
    expect(names.filter((name) => name.startsWith('blobs/'))).toEqual(blobs.sort());
    expect(names.filter((name) => name.startsWith('snapshots/'))).toHaveLength(3);
  });

  it.each([
    ['cacheDir', (folder: string) => ({ cacheDir: folder })],
    ['cache_dir', (folder: string) => ({ cache_dir: folder })],
    ['HF_HUB_CACHE', (folder: string) => ((process.env.HF_HUB_CACHE = folder), {})],
    ['HUGGINGFACE_HUB_CACHE', (folder: string) => ((process.env.HUGGINGFACE_HUB_CACHE = folder), {})],
    ['a variable', () => ((process.env.HF_HUB_CACHE = '${HF_HOME}/elsewhere'), {})],
    [
      '~',
      () => (
        ['HOME', 'USERPROFILE'].map((name) => vi.stubEnv(name, use.home)),
        (process.env.HF_HUB_CACHE = '~/elsewhere'),
        {}
      ),
    ],
  ])('is in the folder that %s names', async (_, options) => {
    onTestFinished(() => void vi.unstubAllEnvs());
    await fromPretrained(BERT, options(join(use.home, 'elsewhere')));
    expect((await filesBelow(join(use.home, 'elsewhere/models--peftjs-tests--bert-tiny'))).size).toBeGreaterThan(6);
  });
});

describe('the token', () => {
  it('is sent to the hub, and not to the store of the large files', async () => {
    process.env.HF_TOKEN = TOKEN;
    use.hub.repos.splice(0, 1, bertRepo({ token: TOKEN }));
    await fromPretrained(BERT);
    const [hub, store] = ['hub', 'store'].map((at) => use.hub.seen.filter((one) => one.at === at)) as [
      typeof use.hub.seen,
      typeof use.hub.seen,
    ];
    expect(new Set(hub.map(({ authorization }) => authorization))).toEqual(new Set([`Bearer ${TOKEN}`]));
    expect(store.map(({ authorization }) => authorization)).toEqual([undefined]);
  });

  it('is not sent to another host for the next page of a list', async () => {
    process.env.HF_TOKEN = TOKEN;
    Object.assign(use.hub, { pageSize: 4, nextPageAt: use.hub.url.replace('127.0.0.1', 'localhost') });
    expect((await hubFiles({ repo: BERT })).files).toHaveLength(6);
    const lists = use.hub.seen.filter(({ path }) => path.includes('/tree/'));
    expect(lists.map(({ authorization }) => authorization)).toEqual([`Bearer ${TOKEN}`, undefined]);
  });

  it('is HF_ACCESS_TOKEN if there is no HF_TOKEN, and none if it is a space', async () => {
    Object.assign(process.env, { HF_TOKEN: ' ', HF_ACCESS_TOKEN: `${TOKEN}\n` });
    await hubFiles({ repo: BERT });
    expect(use.hub.seen[0]?.authorization).toBe(`Bearer ${TOKEN}`);
    process.env.HF_ACCESS_TOKEN = '';
    await hubFiles({ repo: BERT });
    expect(use.hub.seen.at(-1)?.authorization).toBeUndefined();
  });

  it('is written nowhere', async () => {
    process.env.HF_TOKEN = TOKEN;
    await fromPretrained(BERT);
    for (const [path, bytes] of await filesBelow(use.home)) {
      expect(new TextDecoder().decode(bytes), path).not.toContain(TOKEN);
    }
  });
});

describe('progress', () => {
  it('comes in the events of transformers.js', async () => {
    const seen: ProgressInfo[] = [];
    await fromPretrained(BERT, { progress_callback: (info) => seen.push(info) });
    const of = (file: string) => seen.flatMap((info) => ('file' in info && info.file === file ? [info.status] : []));
    expect(new Set(of('config.json'))).toEqual(new Set(['initiate', 'download', 'progress', 'done']));
    expect(of('model.safetensors').slice(0, 2)).toEqual(['initiate', 'download']);
    expect(of('model.safetensors').slice(-2)).toEqual(['progress', 'done']);
    expect(seen.at(-1)).toEqual({ status: 'ready', task: 'sequence-classification', model: BERT });

    const total = ['config.json', 'tokenizer.json', 'model.safetensors'].reduce(
      (sum, name) => sum + (bertFiles[name]?.length ?? 0),
      0,
    );
    const totals = seen.filter((info) => info.status === 'progress_total');
    expect(new Set(totals.map((info) => info.total))).toEqual(new Set([total])); // known from the start
    const loaded = totals.map((info) => info.loaded);
    expect(loaded).toEqual([...loaded].sort((a, b) => a - b));
    expect(totals.at(-1)).toMatchObject({ name: BERT, progress: 100, loaded: total });
    expect(totals.at(-1)?.files['model.safetensors']).toEqual({ loaded: weights.length, total: weights.length });
    const last = seen.findLast((info) => info.status === 'progress');
    expect(last).toEqual({
      status: 'progress',
      name: BERT,
      file: 'model.safetensors',
      progress: 100,
      loaded: weights.length,
      total: weights.length,
    });
  });

  it('reports no downloads of cached files', async () => {
    await fromPretrained(BERT);
    const seen: ProgressInfo[] = [];
    await fromPretrained(BERT, { progressCallback: (info) => seen.push(info) });
    const statuses = seen.flatMap((info) => ('file' in info && info.file === 'config.json' ? [info.status] : []));
    expect(statuses).toEqual(['initiate', 'progress', 'done']);
    expect(seen.filter(({ status }) => status === 'download')).toEqual([]);
  });

  it('fails the load when its listener throws, which does not count as a broken connection', async () => {
    const failing = fromPretrained(BERT, {
      progressCallback: (info) => {
        if (info.status === 'progress' && info.loaded > 0) throw new RangeError('the listener is broken');
      },
    });
    await expect(failing).rejects.toThrow('the listener is broken');
    expect(filesAsked(use.hub)).toEqual(['config.json']);
  });
});

describe('a data set', () => {
  const rows = {
    'cola/train-00000-of-00001.parquet': new Uint8Array(120_000).fill(7),
    'a b/ü#1?.txt': text('x'),
    'empty.txt': new Uint8Array(),
  };

  it('is read file by file', async () => {
    use.hub.repos.push({ type: 'dataset', name: 'nyu-mll/glue', refs: { main: SECOND }, commits: { [SECOND]: rows } });
    use.hub.pageSize = 2;
    const glue = await hubFiles({ repo: 'nyu-mll/glue', type: 'dataset' });
    expect(glue).toMatchObject({ repo: 'nyu-mll/glue', type: 'dataset', commit: SECOND });
    expect(glue.files).toEqual(Object.entries(rows).map(([path, { length: size }]) => ({ path, size })));
    for (const [path, bytes] of Object.entries(rows)) expect(hashesOf(await glue.read(path))).toEqual(hashesOf(bytes));
    const source = await glue.open('cola/train-00000-of-00001.parquet');
    expect(await source.read(119_999, 1)).toEqual(Uint8Array.of(7));
    await source.close?.();
    await expect(glue.read('cola/test.parquet')).rejects.toThrow(
      /^nyu-mll\/glue\/cola\/test\.parquet: no such file at b{12}; its files are cola/,
    );
  });

  it('provides the rows of GLUE and TREC', async () => {
    const fixtures = fileURLToPath(new URL('../../packages/tasks/test/fixtures/hub/', import.meta.url));
    const below = async (folder: string) =>
      Object.fromEntries([...(await filesBelow(join(fixtures, folder)))].map(([path, bytes]) => [path, bytes]));
    const branch = 'refs/convert/parquet';
    use.hub.repos.push(
      { type: 'dataset', name: 'nyu-mll/glue', refs: { main: FIRST }, commits: { [FIRST]: await below('') } },
      { type: 'dataset', name: 'CogComp/trec', refs: { [branch]: SECOND }, commits: { [SECOND]: await below('trec') } },
    );
    const glue = await hubFiles({ repo: 'nyu-mll/glue', type: 'dataset' });
    expect((await readHubGlue('cola', glue.read)).dev.rows.at(-1)?.text).toBe('He left his coat in the hall.');
    const trec = await hubFiles({ repo: 'CogComp/trec', type: 'dataset', revision: branch });
    expect((await readHubTrec(trec.read)).train.rows.length).toBeGreaterThan(1);
    expect(await readFile(join(use.home, `hub/datasets--CogComp--trec/refs/${branch}`), 'utf8')).toBe(SECOND);
  });

  it('is not looked up as a model', async () => {
    await expect(hubFiles({ repo: BERT, type: 'dataset' })).rejects.toMatchObject({ code: 'PEFT_HUB', status: 401 });
    await expect(hubFiles({ repo: BERT, type: 'space' as 'model' })).rejects.toThrow("expected 'model' or 'dataset'");
    await expect(hubFiles({ repo: '../x' })).rejects.toThrow('expected a hub id');
  });
});
