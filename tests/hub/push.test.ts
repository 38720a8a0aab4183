import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { attach, loadPretrained, mergeAndUnload, predict, savePretrained } from '@peftjs/core';
import { CheckpointError, ConfigError } from '@peftjs/core/method';
import { exportOnnxFiles } from '@peftjs/engine';
import { lora } from '@peftjs/lora';
import { fromPretrained, HubError, openFolder, pushToHub, saveMerged, saveOnnx } from '@peftjs/models';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { executor } from '../export/exports.js';
import { bertFolder } from '../models/bert-tiny.js';
import { trainingData } from '../peft/bert.js';
import { peftBench } from '../cli/in-process.js';
import { useHub } from './harness.js';

const use = useHub();
const TOKEN = 'hf_ofMe';

let folder = '';
const path = (name: string): string => join(folder, name);
const model = await fromPretrained(bertFolder);
const peft = attach(model, lora({ r: 2, initLoraWeights: false }), { seed: 4 });
const merged = mergeAndUnload(peft);

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'peftjs-push-'));
  await savePretrained(peft, path('adapter'));
  await saveMerged(merged, path('merged'));
  await saveOnnx(merged, await exportOnnxFiles(merged, { dtype: 'q8' }), path('web'), model);
  await writeFile(path('adapter/.secret'), 'of this machine');
});
afterAll(() => rm(folder, { recursive: true }));
beforeEach(() => {
  process.env.HF_TOKEN = TOKEN;
});

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
    const { commit } = await pushToHub(path('web'), 'me/model');
    const files = use.hub.repos.at(-1)?.commits[commit] ?? {};
    expect(Object.keys(files)).toEqual(expect.arrayContaining(['onnx/model_quantized.onnx', 'model.safetensors']));
    expect(new TextDecoder().decode(files['README.md'])).toContain('library_name: transformers.js');
    expect(JSON.parse(new TextDecoder().decode(files['config.json']))).toMatchObject({
      'transformers.js_config': { dtype: 'q8' },
    });
  });
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

  it('writes nothing without a token', async () => {
    delete process.env.HF_TOKEN;
    const { code, stderr } = await line('not-pushed');
    expect(stderr).toMatch(/needs a token that can write/);
    expect(code).toBe(2);
    expect(await readdir(folder)).not.toContain('not-pushed');
  });
});
