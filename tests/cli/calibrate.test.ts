import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, expect, it } from 'vitest';
import { temporaryFolder } from '../../tools/vitest/temporary-folder.js';
import { bertFolder } from '../models/bert-tiny.js';
import { peftBench } from './in-process.js';

const folder = temporaryFolder();
const path = (name: string): string => join(folder, name);

/** Writes rows whose class follows from their text, except in every n-th one. */
async function write(name: string, count: number, wrong = Infinity, labels = ['cat', 'dog']): Promise<void> {
  const lines = Array.from({ length: count }, (_, row) => {
    const label = (row + Number(row % wrong === wrong - 1)) % 2;
    return `a ${row % 2 === 0 ? 'cat' : 'dog'} is number ${row}\t${labels[label]}`;
  });
  await writeFile(path(name), ['text\tlabel', ...lines].join('\n'));
}

const outOf = (...parts: readonly string[]): string => path(`out-${parts.join('')}`);

const train = (file: string, ...flags: string[]) =>
  peftBench([
    ...['train', '--model', bertFolder, '--method', 'lora', '--budget', 'r=2', '--batch-size', '8', '--epochs', '3'],
    ...[
      '--train',
      path(file),
      '--dev',
      path('dev.tsv'),
      '--learning-rate',
      '0.01',
      ...flags,
      '--out',
      outOf(file, ...flags),
    ],
  ]);

beforeAll(async () => {
  await write('train.tsv', 100, 5);
  await write('right.tsv', 60);
  await write('dev.tsv', 30, 5);
});

it('train --calibrate fits the temperature that predict uses and inspect shows', async () => {
  const [plain, fitted] = [await train('train.tsv'), await train('train.tsv', '--calibrate')];
  expect([plain.code, fitted.code], fitted.stderr).toEqual([0, 0]);
  const line =
    /^calibrated on the 10 selection rows: temperature ([\d.]+), expectedCalibrationError (0\.\d+) before and (0\.\d+) after, on the 30 reported rows$/m;
  const [, temperature, before] = line.exec(fitted.stderr) ?? expect.fail(fitted.stderr);
  expect(fitted.stderr).toContain(`expectedCalibrationError ${before ?? ''}  `); // of the trial
  const files = await Promise.all(
    [outOf('train.tsv'), outOf('train.tsv', '--calibrate')].map(async (adapter) => ({
      weights: await readFile(join(adapter, 'adapter_model.safetensors')),
      config: JSON.parse(await readFile(join(adapter, 'adapter_config.json'), 'utf8')) as { temperature?: number },
      predicted: await peftBench(['predict', adapter, 'a cat is number 1']),
      inspected: (await peftBench(['inspect', adapter])).stdout,
    })),
  );
  const [unscaled, scaled] = files as [(typeof files)[0], (typeof files)[0]];
  const { temperature: stored = NaN, ...others } = scaled.config;
  expect(stored).toBeCloseTo(Number(temperature), 1);
  expect([unscaled.config, unscaled.weights]).toEqual([others, scaled.weights]);
  expect(scaled.predicted.stdout).not.toBe(unscaled.predicted.stdout);
  expect(scaled.inspected).toContain(`temperature of the scores: ${temperature ?? ''}\n`);
  expect(unscaled.inspected).not.toContain('temperature');
});

it('train --calibrate saves the adapter without a temperature where none is best', async () => {
  const { code, stderr } = await train('right.tsv', '--calibrate');
  expect(code, stderr).toBe(0);
  expect(stderr).toContain(
    'not calibrated: all 6 held-out rows are classified right, so no temperature is best: hold out more\n',
  );
  expect(await readFile(join(outOf('right.tsv', '--calibrate'), 'adapter_config.json'), 'utf8')).not.toContain(
    'temperature',
  );
});

it.each([
  ['regression', ['0.5', '1.5'], []],
  ['multi-label', ['0.5', '1.5'], ['--label-separator', '|']],
])('train --calibrate refuses %s', async (kind, labels, flags) => {
  for (const name of ['other.tsv', 'dev.tsv']) await write(name, 30, Infinity, labels);
  const { code, stderr } = await train('other.tsv', ...flags, '--calibrate');
  expect([code, stderr]).toEqual([
    2,
    expect.stringContaining(`--calibrate is for rows with one class each, and these are for ${kind}: leave it out\n`),
  ]);
});
