import * as ort from 'onnxruntime-node';
import { memoryStorage, predict, type Storage } from '@peftjs/core';
import type { Task } from '@peftjs/core/model';
import { relativeDistance } from '@peftjs/conformance';
import { checkOnnx, compiled, exportOnnxFiles } from '@peftjs/engine';
import { fromPretrained, generate, saveOnnx, type PretrainedModel } from '@peftjs/models';
import { toFloat32 } from '@peftjs/safetensors';
import { beforeAll, describe, expect, it } from 'vitest';
import { temporaryFolder } from '../../tools/vitest/temporary-folder.js';
import { bertFolder } from '../models/bert-tiny.js';
import { folder as checkpoint, tiny, type Tiny } from '../models/tiny.js';
import { executor } from './exports.js';
import {
  isMissing,
  ofText,
  place,
  softmax,
  TEXTS,
  transformersJs,
  type LabelScore,
  type Loading,
  type TransformersJs,
} from './transformers-js.js';

const WRITERS = ['gpt2', 'llama', 'qwen3'] as const;
const PROMPTS = [[5, 9, 11], [3]];
const NEW_TOKENS = { maxNewTokens: 64, eosTokenId: [] };
const PAD = 0;

/** The tolerance between two ONNX Runtimes that run the same graph. */
const SAME = 1e-5;

describe(`language models and 8-bit graphs in transformers.js itself (${place})`, () => {
  const folder = temporaryFolder();
  let library: TransformersJs;
  beforeAll(() => {
    if (!isMissing) library = transformersJs(folder);
  });

  it.skipIf(isMissing).each(WRITERS)(
    '%s writes the same 64 tokens after each prompt of a batch; in 8 bits, those of its graph in ONNX Runtime',
    async (name) => {
      const storage = writerFolder(tiny(name));
      const model = await fromPretrained('tiny', { storage, task: 'causal-lm' });
      const graphs = await savedTwice(model, `${folder}/${name}`, { source: 'tiny', sourceStorage: storage });
      const texts = await generate(model, PROMPTS, { executor: compiled({ threads: 1 }), ...NEW_TOKENS });
      const ours = texts.map(({ ids }) => asText(ids));
      expect(new Set(texts.flatMap(({ ids }) => ids)).size).toBeGreaterThan(5); // not one word over and over
      expect(await written(library, name, { dtype: 'fp32' })).toEqual(ours);
      const session = await ort.InferenceSession.create(graphs.q8, { logSeverityLevel: 4 });
      const rounded = [];
      for (const prompt of PROMPTS) rounded.push(asText(await greedy(session, prompt)));
      expect(await written(library, name, { dtype: 'q8' })).toEqual(rounded);
    },
  );

  it.skipIf(isMissing)(
    '8-bit graphs classify texts as in ONNX Runtime, with the error that the export reports',
    async () => {
      const { session, rows } = await roundedBert('sequence-classification', folder);
      const classify = await library.pipeline('text-classification', 'sequence-classification', { dtype: 'q8' });
      const theirs = (await classify(TEXTS, { top_k: null })) as unknown as LabelScore[][];
      for (const [index, row] of rows.entries()) {
        const scores = softmax(await outputs(session, row));
        const given = scores.map((_, label) => theirs[index]?.find((each) => each.label === `LABEL_${label}`)?.score);
        expect(relativeDistance(given as number[], scores)).toBeLessThan(SAME);
      }
    },
  );

  it.skipIf(isMissing)(
    '8-bit graphs classify tokens as in ONNX Runtime, with the error that the export reports',
    async () => {
      const { session, rows } = await roundedBert('token-classification', folder);
      const classify = await library.pipeline('token-classification', 'token-classification', { dtype: 'q8' });
      for (const [index, row] of rows.entries()) {
        const given = await classify(TEXTS[index] ?? '', { ignore_labels: [] });
        const logits = await outputs(session, row);
        const own = rowsOfTokens(logits, row.length).slice(1, -1).map(softmax); // without [CLS] and [SEP]
        const best = own.map((scores) => Math.max(...scores));
        expect(given.map(({ entity }) => entity)).toEqual(
          own.map((scores, token) => `LABEL_${scores.indexOf(best[token] ?? 0)}`),
        );
        expect(
          relativeDistance(
            given.map(({ score }) => score),
            best,
          ),
        ).toBeLessThan(SAME);
      }
    },
  );

  it.skipIf(isMissing)(
    '8-bit graphs embed as in ONNX Runtime, and pooled vectors have no larger error than those of tokens',
    async () => {
      const { model, session, rows, reported } = await roundedBert('feature-extraction', folder);
      const embed = await library.pipeline('feature-extraction', 'feature-extraction', { dtype: 'q8' });
      const pooled = [];
      for (const [index, row] of rows.entries()) {
        const given = await embed([TEXTS[index] ?? ''], { pooling: 'none' });
        expect(relativeDistance(given.tolist().flat(2) as number[], await outputs(session, row))).toBeLessThan(SAME);
        pooled.push((await predict(model, [ofText(model, TEXTS[index] ?? '')], { executor }))[0] ?? new Float32Array());
      }
      const theirs = (await embed(TEXTS, { pooling: 'mean', normalize: true })).tolist().flat() as number[];
      const distance = relativeDistance(
        theirs,
        pooled.flatMap((row) => [...row]),
      );
      expect(distance).toBeGreaterThan(1e-4);
      expect(distance).toBeLessThan(reported);
    },
  );
});

/** A language model with a context of 96 tokens, and a tokenizer of the words t0, t1, .. */
function writerFolder(from: Tiny): Storage {
  const positions = 96;
  const table = from.weights.get('transformer.wpe.weight');
  const weights = new Map(from.weights);
  if (table) {
    const data = toFloat32(table);
    weights.set('transformer.wpe.weight', {
      dtype: 'F32',
      shape: [positions, table.shape[1] ?? 0],
      data: Float32Array.from([...data, ...data]),
    });
  }
  const config = table ? { n_positions: positions } : { max_position_embeddings: positions };
  const words = Array.from({ length: Number(from.config.vocab_size) }, (_, id) => [`t${id}`, id] as const);
  const { files } = checkpoint({ ...from, weights }, 'next', { config }) as ReturnType<typeof memoryStorage>;
  const json = (content: unknown): Uint8Array => new TextEncoder().encode(JSON.stringify(content));
  files.set(
    'tiny/tokenizer.json',
    json({
      version: '1.0',
      added_tokens: [{ id: PAD, content: `t${PAD}`, special: true }],
      normalizer: null,
      pre_tokenizer: { type: 'Whitespace' },
      post_processor: null,
      decoder: null,
      model: { type: 'WordLevel', vocab: Object.fromEntries(words), unk_token: 't1' },
    }),
  );
  files.set('tiny/tokenizer_config.json', json({ tokenizer_class: 'PreTrainedTokenizerFast', pad_token: `t${PAD}` }));
  return memoryStorage(files);
}

/** A text of the words t0, t1, ..; padding is not shown. */
function asText(ids: readonly number[]): string {
  return ids
    .filter((id) => id !== PAD)
    .map((id) => `t${id}`)
    .join(' ');
}

/** The continuations that the pipeline writes for each of {@link PROMPTS}. */
async function written(library: TransformersJs, name: string, loading: Loading): Promise<string[]> {
  const write = await library.pipeline('text-generation', name, loading);
  const options = { max_new_tokens: NEW_TOKENS.maxNewTokens, do_sample: false, eos_token_id: -1 };
  const texts = await write(PROMPTS.map(asText), { ...options, return_full_text: false });
  return texts.map(([text]) => (text?.generated_text ?? '').trim());
}

/** Writes a folder with graphs of both dtypes; `reported` is the error of the 8-bit graph against the model. */
async function savedTwice(
  model: PretrainedModel,
  target: string,
  source: { source?: string; sourceStorage?: Storage } = {},
): Promise<{ q8: Uint8Array; reported: number }> {
  const files = [await exportOnnxFiles(model), await exportOnnxFiles(model, { dtype: 'q8' })] as const;
  const { maxTokens } = model;
  await saveOnnx(model, new Map([...files[0], ...files[1]]), target, { ...source, maxTokens });
  const [q8 = new Uint8Array()] = files[1].values();
  return { q8, reported: await checkOnnx(q8, model, { maxTokens, dtype: 'q8' }) };
}

/**
 * BERT with a head, in a folder with the task's name; its 8-bit graph in our ONNX Runtime, and the ids of {@link
 * TEXTS}.
 */
async function roundedBert(
  task: Task,
  folder: string,
): Promise<{
  model: PretrainedModel;
  session: ort.InferenceSession;
  rows: number[][];
  reported: number;
}> {
  const model = await fromPretrained(bertFolder, {
    task,
    ...(task === 'feature-extraction' ? { normalize: true } : { numLabels: 3 }),
  });
  const { q8, reported } = await savedTwice(model, `${folder}/${task}`);
  const session = await ort.InferenceSession.create(q8, { logSeverityLevel: 4 });
  const rows = TEXTS.map((text) => [...model.tokenizer.encode(text).ids]);
  const whole = await ort.InferenceSession.create(`${folder}/${task}/onnx/model.onnx`);
  const both = [session, whole].map((each) => Promise.all(rows.map((row) => outputs(each, row))));
  const [rounded = [], exact = []] = (await Promise.all(both)).map((values) => values.flat());
  const distance = relativeDistance(rounded, exact);
  expect(distance).toBeGreaterThan(reported / 5); // `reported` is the largest error of other batches
  expect(distance).toBeLessThan(1.5 * reported);
  return { model, session, rows, reported };
}

/** The first output of a graph for a text without past. */
async function outputs(session: ort.InferenceSession, ids: readonly number[]): Promise<number[]> {
  const integers = (data: readonly number[]) =>
    new ort.Tensor('int64', BigInt64Array.from(data, BigInt), [1, data.length]);
  const known: Record<string, readonly number[]> = {
    input_ids: ids,
    attention_mask: ids.map(() => 1),
    token_type_ids: ids.map(() => 0),
    position_ids: ids.map((_, position) => position),
  };
  const feeds = session.inputMetadata.map((input): [string, ort.Tensor] => {
    const own = known[input.name];
    if (own) return [input.name, integers(own)];
    const [, heads, , size] = input.isTensor ? input.shape : [];
    return [input.name, new ort.Tensor('float32', [], [1, Number(heads), 0, Number(size)])];
  });
  const { logits, last_hidden_state } = await session.run(Object.fromEntries(feeds));
  return [...((logits ?? last_hidden_state)?.data as Float32Array)];
}

/** The likeliest tokens by a graph that reads the whole text for each token. */
async function greedy(session: ort.InferenceSession, prompt: readonly number[]): Promise<number[]> {
  const ids = [...prompt];
  while (ids.length < prompt.length + NEW_TOKENS.maxNewTokens) {
    const last = rowsOfTokens(await outputs(session, ids), ids.length).at(-1) ?? [];
    ids.push(last.indexOf(Math.max(...last)));
  }
  return ids.slice(prompt.length);
}

function rowsOfTokens(values: readonly number[], tokens: number): number[][] {
  const width = values.length / tokens;
  return Array.from({ length: tokens }, (_, token) => values.slice(token * width, (token + 1) * width));
}
