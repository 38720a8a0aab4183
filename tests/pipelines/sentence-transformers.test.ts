import { readFileSync } from 'node:fs';
import { memoryStorage, type Storage } from '@peftjs/core';
import { UnsupportedError } from '@peftjs/core/method';
import { referenceExecutor, relativeDistance } from '@peftjs/conformance';
import { fromPretrained, saveMerged, saveOnnx } from '@peftjs/models';
import { pipeline } from '@peftjs/pipelines';
import { describe, expect, it } from 'vitest';
import { bertFiles, bertFolder } from '../models/bert-tiny.js';

/**
 * A sentence-transformers folder for the files of the tiny BERT, with safetensors in base64, and its embeddings of
 * texts.
 */
interface Embedder {
  readonly files: Readonly<Record<string, unknown>>;
  readonly embeddings: readonly number[];
  /** The embeddings with an empty prompt. */
  readonly without: readonly number[];
}

const { texts, models } = JSON.parse(readFileSync(`${bertFolder}/embedders.json`, 'utf8')) as {
  readonly texts: readonly string[];
  readonly models: Readonly<Record<string, Embedder>>;
};

const TOLERANCE = 1e-5;
const executor = await referenceExecutor();
const methods = [] as const;
const task = 'feature-extraction';

function folderOf({ files }: Pick<Embedder, 'files'>): Storage {
  const own = Object.entries(files).map(
    ([name, content]) =>
      [
        name,
        typeof content === 'string' ? Buffer.from(content, 'base64') : Buffer.from(JSON.stringify(content)),
      ] as const,
  );
  return memoryStorage(
    new Map([...Object.entries(bertFiles), ...own].map(([name, bytes]) => [`st/${name}`, new Uint8Array(bytes)])),
  );
}

const opened = (storage: Storage) => pipeline(task, 'st', { methods, executor, storage });
const last = Object.entries(models).at(-2)?.[1] ?? expect.fail('no models');

/** The first of these has every pooling mode. */
const whole = Object.entries(models).slice(-3);

describe.each(whole)('a sentence-transformers folder: %s', (_, embedder) => {
  it('embeds as in Python, with and without its prompt, also when merged', async () => {
    const storage = folderOf(embedder);
    const embed = await opened(storage);
    expect(relativeDistance([...(await embed(texts)).data], embedder.embeddings)).toBeLessThan(TOLERANCE);
    expect(relativeDistance([...(await embed(texts, { prompt: '' })).data], embedder.without)).toBeLessThan(TOLERANCE);
    await embed.dispose();
    const merged = memoryStorage();
    await saveMerged(await fromPretrained('st', { task, storage }), 'st', { sourceStorage: storage, storage: merged });
    const again = await opened(merged);
    expect(relativeDistance([...(await again(texts)).data], embedder.embeddings)).toBeLessThan(TOLERANCE);
    await again.dispose();
  });
});

it('pools tokens in another way on request', async () => {
  const embed = await opened(folderOf(models.mean as Embedder));
  for (const pooling of ['cls', 'max', 'mean_sqrt_len_tokens', 'weightedmean', 'lasttoken'] as const) {
    const storage = folderOf(models[pooling] as Embedder);
    expect((await fromPretrained('st', { task, storage })).pooling).toEqual({ pooling, normalize: false });
    const { data } = await embed(texts, { pooling });
    expect(relativeDistance([...data], (models[pooling] as Embedder).embeddings), pooling).toBeLessThan(TOLERANCE);
  }
  await embed.dispose();
});

describe('the modules after the pooling', () => {
  it('are fixed, and prompts have names', async () => {
    const embed = await opened(folderOf(last));
    await expect(embed(texts, { pooling: 'max' })).rejects.toThrow('has modules after its pooling (Dense, LayerNorm)');
    await expect(embed(texts, { promptName: 'passage' })).rejects.toThrow(
      "option 'promptName' is 'passage'; 'st' has document, query",
    );
    const empty = await embed(texts, { promptName: 'document' });
    expect(relativeDistance([...empty.data], last.without)).toBeLessThan(TOLERANCE);
    expect((await embed(texts[0] as string, { pooling: 'none' })).dims[2]).toBe(32);
    await embed.dispose();
  });

  it('are not supported by transformers.js', async () => {
    const storage = folderOf(last);
    const model = await fromPretrained('st', { task, storage });
    const saved = saveOnnx(model, new Uint8Array(), 'onnx', { sourceStorage: storage, storage, maxTokens: 64 });
    await expect(saved).rejects.toThrow("'st' embeds with Dense, which transformers.js does not support");
  });

  it.each<[string, Record<string, unknown>, string | RegExp]>([
    [
      'another activation',
      { '2_Dense/config.json': { activation_function: 'mine.Act' } },
      '\'activation_function\' is "mine.Act"',
    ],
    ['another input', { '2_Dense/config.json': { module_input_name: 'token_embeddings' } }, "'module_input_name' is"],
    ['widths that do not fit', { '2_Dense/config.json': { in_features: 8 } }, "'2_Dense' reads 8 features but gets 64"],
    ['no weights', { '2_Dense/model.safetensors': undefined }, 'pickled weights are not read'],
    ['an unknown pooling', { '1_Pooling/config.json': { pooling_mode: 'median' } }, 'got median'],
    ['another network', { 'sentence_bert_config.json': { transformer_task: 'fill-mask' } }, "'transformer_task' is"],
    [
      'an unknown module',
      { 'modules.json': ['Transformer', 'Pooling', 'LSTM'].map((kind) => ({ type: `sentence_transformers.${kind}` })) },
      'got Transformer, Pooling, LSTM',
    ],
    [
      'prompts without the default one',
      { 'config_sentence_transformers.json': { default_prompt_name: 'x' } },
      'there is no prompt of the \'default_prompt_name\' "x"',
    ],
  ])('are rejected with %s', async (_, changes, message) => {
    const changed = Object.entries(changes).map(([name, change]) => {
      const own = last.files[name];
      return [
        name,
        Array.isArray(change) || change === undefined ? change : { ...(own as object), ...(change as object) },
      ] as const;
    });
    const files = Object.fromEntries(
      Object.entries({ ...last.files, ...Object.fromEntries(changed) }).filter(([, file]) => file !== undefined),
    );
    await expect(fromPretrained('st', { task, storage: folderOf({ files }) })).rejects.toThrow(message);
  });

  it('are rejected if prompts are excluded from the pooling', async () => {
    const pooling = { ...(last.files['1_Pooling/config.json'] as object), include_prompt: false };
    const embed = await opened(folderOf({ files: { ...last.files, '1_Pooling/config.json': pooling } }));
    await expect(embed(texts)).rejects.toThrow(UnsupportedError);
    expect(relativeDistance([...(await embed(texts, { prompt: '' })).data], last.without)).toBeLessThan(TOLERANCE);
    await embed.dispose();
  });
});
