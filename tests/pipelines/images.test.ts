import { readFileSync } from 'node:fs';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { memoryStorage, predict } from '@peftjs/core';
import { compiled } from '@peftjs/engine';
import { fromOnnx } from '@peftjs/onnx';
import { pipeline } from '@peftjs/pipelines';
import { createDataSet, evaluationData } from '@peftjs/tasks';
import { encodeImages, imageProcessor } from '@peftjs/tasks/images';
import { afterAll, describe, expect, it } from 'vitest';
import { IMAGES_OF_8, visionFolder, visionGraph } from '../models/vision.js';

const path = (name: string): string => fileURLToPath(new URL(`../${name}`, import.meta.url));
const read = (name: string): Uint8Array => new Uint8Array(readFileSync(path(name)));
const storage = memoryStorage(new Map([...visionFolder('vit'), ['plain.onnx', visionGraph('vit-traced')]]));
const executor = compiled({ threads: 1 });
const labels = ['cat', 'dog', 'hen'];
const model = await fromOnnx('vit', { storage, labels });
const classify = await pipeline('image-classification', model, { methods: [], executor });
afterAll(() => classify.dispose());

const [ONE, OTHER] = ['tasks/fixtures/images/rgb.png', 'tasks/fixtures/images/photo.jpg'].map(path) as [string, string];

describe('image-classification', () => {
  it('returns the softmax of the logits, best first: for one image, and for several by path and bytes', async () => {
    const rows = [ONE, OTHER].map((text) => ({ text, label: 0 }));
    const data = await encodeImages(
      await createDataSet({ name: 'two', kind: 'classification', classes: labels, rows }),
      {
        processor: imageProcessor(IMAGES_OF_8),
        storage: { ...storage, read: (file) => Promise.resolve(new Uint8Array(readFileSync(file))) },
      },
    );
    const logits = await predict(model, evaluationData(data, { batchSize: 2 }).batches, { executor });
    const expected = logits.map((own) => {
      const powers = [...own].map(Math.exp);
      const sum = powers.reduce((total, power) => total + power, 0);
      return powers
        .map((power, label) => ({ label: labels[label], score: power / sum }))
        .sort((a, b) => b.score - a.score);
    });
    const both = await classify([ONE, new Blob([read('tasks/fixtures/images/photo.jpg')])]);
    expect(both.map((own) => own.map(({ label }) => label))).toEqual(
      expected.map((own) => own.map(({ label }) => label)),
    );
    both.flat().forEach(({ score }, at) => expect(score).toBeCloseTo(expected.flat()[at]?.score ?? NaN, 5));
    expect((await classify(ONE)).map(({ label }) => label)).toEqual(both[0]?.map(({ label }) => label));
    expect(await classify(pathToFileURL(ONE))).toEqual(await classify(ONE));
    expect(await classify(ONE, { topK: 1 })).toHaveLength(1);
    expect(await classify([ONE], { topK: 1 })).toEqual([await classify(ONE, { topK: 1 })]);
  });

  it.each([
    ['none.png', /none.png: cannot be read/],
    [7 as unknown as string, /image 1: expected a path, a URL, or the bytes of a file, got 7/],
    [new Uint8Array(9), /image 1: expected a PNG or JPEG image/],
  ])('refuses %j in one line', async (image, message) => {
    await expect(classify(image)).rejects.toThrow(message);
  });

  it('needs a model that says how it reads images', async () => {
    const plain = await fromOnnx('plain.onnx', { storage });
    await expect(pipeline('image-classification', plain, { methods: [], executor })).rejects.toThrow(/reads no images/);
  });
});
