// The program of the guide on images.
import { copyFile, mkdir, readdir } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { attach, diskStorage, mergeAndUnload, savePretrained, train } from '@peftjs/core';
import { compiled } from '@peftjs/engine';
import { lora } from '@peftjs/lora';
import { fromOnnx, saveOnnxGraph } from '@peftjs/onnx';
import { pipeline } from '@peftjs/pipelines';
import { createDataSet, trainingData } from '@peftjs/tasks';
import { encodeImages, imageProcessor, imageRows } from '@peftjs/tasks/images';
import { expect, it } from 'vitest';
import { visionFolder } from '../../tests/models/vision.js';
import { heard, useFolder } from './surroundings.js';

useFolder();

const path = (name: string): string => fileURLToPath(new URL(`../../tests/${name}`, import.meta.url));

it('images train an adapter, and a graph is written', async () => {
  for (const folder of ['photos/cat', 'photos/dog']) await mkdir(folder, { recursive: true });
  for (const [index, name] of ['rgb.png', 'grey.png', 'tall.png', 'alpha.png'].entries())
    await copyFile(path(`tasks/fixtures/images/${name}`), `photos/${index < 2 ? 'cat' : 'dog'}/${name}`);
  await copyFile(path('tasks/fixtures/images/photo.jpg'), 'new.jpg');
  for (const [file, bytes] of visionFolder('vit', 'vit-features')) await diskStorage().write(file, bytes);
  const log = heard('log');
  // #region images
  const rows = await createDataSet(imageRows(await readdir('photos', { recursive: true }), 'photos'));
  const model = await fromOnnx('vit', { labels: rows.classes, pooling: 'cls' });
  const images = await encodeImages(rows, {
    processor: imageProcessor(model.preprocessor), // resizes, crops and normalises
    storage: diskStorage(),
    folder: 'photos',
    augmentation: { flip: true, crop: 8 }, // in training only
  });

  const executor = compiled();
  const peft = attach(model, lora({ r: 8 }), { seed: 1 });
  await train(peft, trainingData(images, { batchSize: 32, seed: 1 }), { executor, epochs: 5 });
  await savePretrained(peft, 'my-adapter');
  await saveOnnxGraph(mergeAndUnload(peft), 'tuned'); // a folder for transformers.js

  const classify = await pipeline('image-classification', peft, { methods: [lora], executor });
  console.log(await classify('new.jpg', { topK: 3 })); // [{ label, score }, ..]
  // #endregion images
  const labels = (log.mock.calls[0]?.[0] as { label: string }[]).map(({ label }) => label);
  expect(labels.sort()).toEqual(['cat', 'dog']);
  await classify.dispose();
});
