import { cp, mkdir, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { attach, loadPretrained, memoryStorage, mergeAndUnload, predict, savePretrained } from '@peftjs/core';
import { CheckpointError, ConfigError } from '@peftjs/core/method';
import { exportOnnxFiles } from '@peftjs/engine';
import { lora } from '@peftjs/lora';
import { fromPretrained, HubError, openFolder, pushToHub, saveMerged, saveOnnx } from '@peftjs/models';
import { beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { temporaryFolder } from '../../tools/vitest/temporary-folder.js';
import { executor } from '../export/exports.js';
import { bertFolder } from '../models/bert-tiny.js';
import { trainingData } from '../peft/bert.js';
import { peftBench } from '../cli/in-process.js';
import { useHub } from './harness.js';

const use = useHub();
const TOKEN = 'hf_ofMe';

const folder = temporaryFolder();
const path = (name: string): string => join(folder, name);
const model = await fromPretrained(bertFolder);
const peft = attach(model, lora({ r: 2, initLoraWeights: false }), { seed: 4 });
const merged = mergeAndUnload(peft);

beforeAll(async () => {
  await savePretrained(peft, path('adapter'));
  await saveMerged(merged, path('merged'));
  await saveOnnx(merged, await exportOnnxFiles(merged, { dtype: 'q8' }), path('web'), model);
  await writeFile(path('adapter/.secret'), 'of this machine');
  await writeFile(path('adapter/adapter_model.safetensors.k3x9.tmp'), 'of a killed save of an older version');
  await mkdir(path('adapter/.peftjs-save-1-0-0-0-0-0-k3x9.tmp/k3x9'), { recursive: true });
  await writeFile(path('adapter/.peftjs-save-1-0-0-0-0-0-k3x9.tmp/k3x9/000000-README.md'), 'of a killed save');
});
beforeEach(() => {
  process.env.HF_TOKEN = TOKEN;
});

/** Returns what an interrupted save writes over the configuration in a storage that cannot replace files together. */
async function markOfAnInterruptedSave(): Promise<Uint8Array> {
  const { files, read, exists } = memoryStorage();
  const adapter = memoryStorage(files);
  await savePretrained(peft, 'a', { storage: adapter });
  let writes = 0;
  const write = (file: string, bytes: Uint8Array): Promise<void> =>
    writes++ === 0 ? adapter.write(file, bytes) : Promise.reject(new Error('killed'));
  await savePretrained(peft, 'a', { storage: { read, exists, write } }).catch(() => undefined);
  return files.get('a/adapter_config.json') as Uint8Array;
}

const [batch] = trainingData.epoch(0);
const outputs = async (of: Parameters<typeof predict>[0]) => predict(of, batch ? [batch] : [], { executor });

describe('a pushed folder', () => {
  it('can be an adapter, which opens here', async () => {
    const { url, commit } = await pushToHub(path('adapter'), 'me/adapter');
    expect(url).toBe(`${use.hub.url}/me/adapter`);
    expect(use.hub.repos.at(-1)).toMatchObject({ name: 'me/adapter', refs: { main: commit } });
    const files = use.hub.repos.at(-1)?.commits[commit] ?? {};
    expect(Object.keys(files).sort()).toEqual(['README.md', 'adapter_config.json', 'adapter_model.safetensors']);
    const opened = await openFolder('me/adapter');
    const loaded = await loadPretrained(model, opened.path, { storage: opened.storage, methods: [lora] });
    expect(await outputs(loaded)).toEqual(await outputs(peft));
    const card = new TextDecoder().decode(files['README.md']);
    expect(card).toMatch(
      /^---\nlibrary_name: peft\npipeline_tag: text-classification\ntags:\n- "peftjs"\n- "lora"\n---\n\n#/,
    );
  });

  it('can be a snapshot of the hub cache, whose files are links', async () => {
    await mkdir(path('snapshot'));
    const files = ['README.md', 'adapter_config.json', 'adapter_model.safetensors'];
    for (const file of files) await symlink(`../adapter/${file}`, path(`snapshot/${file}`));
    const { commit } = await pushToHub(path('snapshot'), 'me/snapshot');
    expect(Object.keys(use.hub.repos.at(-1)?.commits[commit] ?? {}).sort()).toEqual(files);
    const opened = await openFolder('me/snapshot');
    const loaded = await loadPretrained(model, opened.path, { storage: opened.storage, methods: [lora] });
    expect(await outputs(loaded)).toEqual(await outputs(peft));
  });

  it('can be a merged model, which opens here, with its weights stored as a large file', async () => {
    await pushToHub(path('merged'), 'me/merged', { private: true, commitMessage: 'First' });
    expect(use.hub.seen.filter(({ at, method }) => at === 'store' && method === 'PUT')).toHaveLength(1);
    expect(
      use.hub.seen.filter(({ at }) => at === 'store').every(({ authorization }) => authorization === undefined),
    ).toBe(true);
    expect(use.hub.repos.at(-1)).toMatchObject({ name: 'me/merged', token: TOKEN });
    expect(await outputs(await fromPretrained('me/merged'))).toEqual(await outputs(merged));
  });

  it('can have the layout of transformers.js, and replaces existing files', async () => {
    await pushToHub(path('merged'), 'me/model');
    const { commit } = await pushToHub(`${path('merged')}/../web`, 'me/model'); // readdir returns a shorter path
    const files = use.hub.repos.at(-1)?.commits[commit] ?? {};
    expect(Object.keys(files)).toEqual(expect.arrayContaining(['onnx/model_quantized.onnx', 'model.safetensors']));
    expect(new TextDecoder().decode(files['README.md'])).toContain('library_name: transformers.js');
    expect(JSON.parse(new TextDecoder().decode(files['config.json']))).toMatchObject({
      'transformers.js_config': { dtype: 'q8' },
    });
  });
});

it('an existing repository can be pushed to with a token that may not create one', async () => {
  await pushToHub(path('adapter'), 'me/shared');
  use.hub.disturb(/\/repos\/create/, { status: 403 });
  expect(await pushToHub(path('adapter'), 'me/shared')).toHaveProperty('commit');
});

it('a folder of GGUF files can be pushed, and a model loads from the file on the hub', async () => {
  await mkdir(path('gguf'));
  await cp(new URL('../models/fixtures/gguf/qwen2.gguf', import.meta.url), path('gguf/model.gguf'));
  await pushToHub(path('gguf'), 'me/gguf');
  const loaded = await fromPretrained('me/gguf/model.gguf', { task: 'causal-lm' });
  expect(loaded.eosTokenIds).toEqual([2]);
});

describe('a push fails with a one-line message', () => {
  const refusal = async (pushing: Promise<unknown>): Promise<Error> => {
    const error = await pushing.then(
      () => expect.fail('it was not'),
      (error: unknown) => error as Error,
    );
    expect(error.message).not.toContain('\n');
    expect(error.message).not.toContain('hf_');
    return error;
  };

  it('without a token, before anything is sent', async () => {
    delete process.env.HF_TOKEN;
    const error = await refusal(pushToHub(path('adapter'), 'me/adapter'));
    expect(error).toBeInstanceOf(ConfigError);
    expect(error.message).toMatch(
      /a push to me\/adapter needs a token that can write: set HF_TOKEN to one from http.*\/settings\/tokens/,
    );
    expect(use.hub.seen).toEqual([]);
  });

  it.each([
    ['a token that is not valid', 'hf_nobody', 'me/adapter', /answers 401: HF_TOKEN is not valid/],
    [
      "another's organisation",
      TOKEN,
      'you/adapter',
      /answers 403: HF_TOKEN cannot write to you\/adapter: give it write access/,
    ],
  ])('for %s', async (_, token, repo, message) => {
    process.env.HF_TOKEN = token;
    const error = await refusal(pushToHub(path('adapter'), repo));
    expect(error).toBeInstanceOf(HubError);
    expect(error.message).toMatch(message);
  });

  it("if the branch has changed in the meantime, or if the hub rejects the card, with the hub's message", async () => {
    use.hub.disturb(/\/commit\//, { status: 409 });
    expect((await refusal(pushToHub(path('adapter'), 'me/adapter'))).message).toMatch(
      /409: 'main' has changed: push again/,
    );
    use.hub.disturb(/\/commit\//, { status: 400, body: '{"error":"base_model is\\nnot valid"}' });
    expect((await refusal(pushToHub(path('adapter'), 'me/adapter'))).message).toMatch(
      /400: it rejected the files or their model card \(it says: base_model is not valid\)$/,
    );
  });

  it.each([
    [
      'an adapter',
      'adapter',
      'adapter_model.safetensors',
      /adapter_config\.json but no weights: expected adapter_model/,
    ],
    [
      'a model',
      'merged',
      'model.safetensors',
      /config\.json but no weights: expected a \.safetensors or \.onnx file; save/,
    ],
  ])('for %s without weights, before anything is sent', async (_, complete, weights, message) => {
    const partial = path(`${complete}-without-weights`);
    await cp(path(complete), partial, { recursive: true });
    await rm(join(partial, weights));
    const error = await refusal(pushToHub(partial, 'me/adapter'));
    expect(error).toBeInstanceOf(CheckpointError);
    expect(error.message).toMatch(message);
    expect(use.hub.seen).toEqual([]);
  });

  it('after an interrupted save of one of its adapters, and for a link to a folder or to nothing', async () => {
    const partial = path('partial');
    await cp(path('adapter'), partial, { recursive: true });
    await cp(path('adapter'), join(partial, 'other'), { recursive: true });
    await writeFile(join(partial, 'other/adapter_config.json'), await markOfAnInterruptedSave());
    const error = await refusal(pushToHub(partial, 'me/adapter'));
    expect(error).toBeInstanceOf(CheckpointError);
    expect(error.message).toMatch(/partial\/other\/adapter_config\.json: a save into this folder was cut short/);

    await rm(join(partial, 'other'), { recursive: true });
    await symlink('..', join(partial, 'link'));
    expect((await refusal(pushToHub(partial, 'me/adapter'))).message).toMatch(/partial\/link is not a file: remove it/);
    await rm(join(partial, 'link'));
    await symlink('nothing', join(partial, 'link'));
    expect((await refusal(pushToHub(partial, 'me/adapter'))).message).toMatch(/cannot read .*partial: .*ENOENT/);
    expect(use.hub.seen).toEqual([]);
  });

  it('for a folder that is neither an adapter nor a model, and without a name', async () => {
    expect(await refusal(pushToHub(folder, 'me/adapter'))).toBeInstanceOf(CheckpointError);
    expect((await refusal(pushToHub(path('nowhere'), 'me/adapter'))).message).toMatch(/cannot read .*nowhere/);
    expect((await refusal(pushToHub(path('adapter'), 'adapter'))).message).toMatch(/organisation\/name, got "adapter"/);
  });
});

describe('peft-bench export --push', () => {
  const line = (out: string, ...more: string[]) =>
    peftBench(['export', path('adapter'), '--format', 'peft', '--out', path(out), '--push', 'me/pushed', ...more]);

  it('writes the folder and pushes it', async () => {
    const { code, stderr } = await line('pushed', '--private');
    expect(stderr).toMatch(/^wrote the adapter to .*\npushed to http.*\/me\/pushed, commit [0-9a-f]{12}\n$/);
    expect(code).toBe(0);
    expect(use.hub.repos.at(-1)).toMatchObject({ name: 'me/pushed', token: TOKEN });
  });

  it('does not upload what else is in a folder that --force writes into', async () => {
    const { code, stderr } = await line('pushed', '--force');
    expect(stderr).toMatch(/--push uploads every file in --out; name a new folder/);
    expect(code).toBe(2);
  });

  it('writes nothing without a token', async () => {
    delete process.env.HF_TOKEN;
    const { code, stderr } = await line('not-pushed');
    expect(stderr).toMatch(/needs a token that can write/);
    expect(code).toBe(2);
    expect(await readdir(folder)).not.toContain('not-pushed');
  });
});
