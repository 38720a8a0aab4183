/**
 * Adapts a small vision transformer, trained in full on the digits 0 to 4 of MNIST by digits_vit.py, to the digits 5 to
 * 9. Prints a table of the accuracy on held-out images, for head, LoRA, SoRA and full fine-tuning at three seeds.
 *
 *   npx tsx --conditions @peftjs/source tools/studies/digits.ts FOLDER
 */
import { createRequire } from 'node:module';
import { resolve } from 'node:path';
import { attach, countParameters, evaluate, memoryStorage, train } from '@peftjs/core';
import { full, head } from '@peftjs/baselines';
import { ConfigError, type ConfiguredMethod } from '@peftjs/core/method';
import { compiled } from '@peftjs/engine';
import { lora } from '@peftjs/lora';
import { fromOnnx } from '@peftjs/onnx';
import { sora } from '@peftjs/sora';
import { createDataSet, evaluationData, trainingData } from '@peftjs/tasks';
import { encodeImages, imageProcessor, imageRows } from '@peftjs/tasks/images';
import sharp from 'sharp';

const [folder] = process.argv.slice(2);
if (folder === undefined) throw new ConfigError('name the folder of digits_vit.py', 'folder');

const DIGITS = [5, 6, 7, 8, 9];
/** The images of each digit, of which the first ones train and those after the network's own training rows test. */
const [TRAINING, TEST] = [400, 700];
const SIDE = 28;
const [EPOCHS, BATCH, SEEDS] = [15, 32, [1, 2, 3]] as const;

/** The methods, and their learning rates: the better of two on 250 other images at seed 1. */
const METHODS: readonly (readonly [name: string, method: ConfiguredMethod, learningRates: readonly number[]])[] = [
  ['head alone', head(), [3e-2, 1e-1]],
  ['LoRA, r = 8', lora({ r: 8, loraAlpha: 16, targetModules: 'all-linear' }), [3e-3, 6e-3]],
  ['SoRA, same size', sora({ r: 16, budget: 28_672, targetModules: 'all-linear' }), [3e-3, 6e-3]],
  ['full fine-tuning', full(), [1e-3, 3e-3]],
];

/** Writes the digits as PNG files, `<digit>/<number>.png`. */
async function digitFiles(from: number, to: number): Promise<Map<string, Uint8Array>> {
  const files = new Map<string, Uint8Array>();
  for (const digit of DIGITS) {
    const { data } = createRequire(import.meta.url)(`mnist/src/digits/${digit}.json`) as { data: number[] };
    for (let image = from; image < Math.min(to, data.length / SIDE ** 2); image++) {
      const pixels = data.slice(image * SIDE ** 2, (image + 1) * SIDE ** 2).map((x) => Math.round(255 * x));
      const png = sharp(Uint8Array.from(pixels), { raw: { width: SIDE, height: SIDE, channels: 1 } }).png();
      files.set(`${digit}/${image}.png`, new Uint8Array(await png.toBuffer()));
    }
  }
  return files;
}

const executor = compiled();
const model = await fromOnnx(resolve(folder, 'model'), { labels: DIGITS.map(String), pooling: 'cls' });
const processor = imageProcessor(model.preprocessor);
const encoded = async (name: string, from: number, to: number) => {
  const files = await digitFiles(from, to);
  const rows = await createDataSet(imageRows([...files.keys()], name));
  return encodeImages(rows, { processor, storage: memoryStorage(files), augmentation: { crop: 2 } });
};
const [training, selection, test] = [
  await encoded('training', 0, TRAINING),
  await encoded('selection', TRAINING, TRAINING + 50),
  await encoded('test', TEST, Infinity),
];

async function accuracy(method: ConfiguredMethod, learningRate: number, seed: number, on: typeof test) {
  const peft = attach(model, method, { seed });
  await train(peft, trainingData(training, { batchSize: BATCH, seed }), { executor, epochs: EPOCHS, learningRate });
  const { accuracy: share } = await evaluate(peft, evaluationData(on, { batchSize: 64 }), { executor });
  return { accuracy: share as number, stored: countParameters(peft).stored };
}

const rounded = (value: number): string => value.toFixed(3);
console.log(`${training.rows.length} training images, ${test.rows.length} test images\n`);
console.log('| method | parameters | learning rate | accuracy, seeds 1 to 3 | mean |\n| --- | --: | --: | --: | --: |');
for (const [name, method, rates] of METHODS) {
  let [best, rate] = [-1, 0];
  for (const candidate of rates) {
    const { accuracy: found } = await accuracy(method, candidate, 1, selection);
    if (found > best) [best, rate] = [found, candidate];
  }
  const results = [];
  for (const seed of SEEDS) results.push(await accuracy(method, rate, seed, test));
  const all = results.map((result) => result.accuracy);
  const mean = all.reduce((sum, value) => sum + value, 0) / all.length;
  const stored = Math.max(...results.map((result) => result.stored)).toLocaleString('en');
  console.log(`| ${name} | ${stored} | ${rate} | ${all.map(rounded).join(', ')} | ${rounded(mean)} |`);
}
