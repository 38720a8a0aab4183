import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { RowPredictions } from '@peftjs/core/model';
import { DataError } from '@peftjs/core/method';
import { failedTrial, syntheticTrial } from '../../test/synthetic-results.js';
import { readResults, resultPath, runFileIn, writeResult, writeRunFile } from './files.js';
import { boundedHistory, storablePredictions, type TrialResult } from './schema.js';

const trial = syntheticTrial({ task: 'uci-sentiment', method: 'sora', rank: 4, seed: 1 });
let dir: string;

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'results-'));
  await mkdir(join(dir, 'results'));
});
afterEach(() => rm(dir, { recursive: true }));

describe('writeResult and readResults', () => {
  it('return what was written, by file name, and leave no other files', async () => {
    const failed = failedTrial({ ...trial, id: 'a-failed' }, 'the loss is not finite at step 3');
    await writeResult(dir, trial);
    await writeResult(dir, failed);
    expect(await readResults(dir)).toEqual([failed, trial]);
    expect(await readdir(join(dir, 'results'))).toEqual(['a-failed.json', `${trial.id}.json`]);
  });

  it('sort seeds as numbers', async () => {
    for (const seed of [10, 2, 1]) await writeResult(dir, { ...trial, id: `sora-s${seed}-a0`, seed });
    expect((await readResults(dir)).map(({ seed }) => seed)).toEqual([1, 2, 10]);
  });

  it('find nothing if there is no folder', async () => {
    expect(await readResults(join(dir, 'elsewhere'))).toEqual([]);
  });

  it.each<[string, (result: TrialResult) => unknown]>([
    ['a metric that is not finite', (result) => ({ ...result, metrics: { accuracy: NaN } })],
    ['a primary metric that is missing', (result) => ({ ...result, metrics: { f1: 0.5 } })],
    ['too long a history', (result) => ({ ...result, history: Array(401).fill(trial.history[0]) })],
    ['an id that leaves the folder', (result) => ({ ...result, id: '../outside' })],
  ])('refuse to write %s', async (_, spoil) => {
    await expect(writeResult(dir, spoil(trial) as TrialResult)).rejects.toThrow(DataError);
    expect(await readdir(join(dir, 'results'))).toEqual([]);
  });
});

describe('readResults', () => {
  const hostile: [string, string | Uint8Array, RegExp][] = [
    ['broken JSON', '{"id": ', /not JSON/],
    ['bytes that are not text', Uint8Array.of(0x7b, 0xff, 0xfe), /not JSON/],
    ['a list', '[]', /Invalid type/],
    ['another status', JSON.stringify({ ...trial, status: 'maybe' }), /'status'/],
    ['text for a number', JSON.stringify({ ...trial, seed: '1' }), /'seed'/],
    [
      'a number out of range',
      JSON.stringify(trial).replace('"totalSeconds":', '"totalSeconds":1e999,"x":'),
      /totalSeconds/,
    ],
    ['an id that differs from the file name', JSON.stringify({ ...trial, id: 'other' }), /its id is 'other'/],
    [
      'a configuration nested too deeply',
      JSON.stringify({ ...trial, methodConfig: { a: '@' } }).replace('"@"', nested(100_000)),
      /methodConfig/,
    ],
    ['a very long name', JSON.stringify({ ...trial, task: 'x'.repeat(5000) }), /'task'/],
    [
      'too many ranks',
      JSON.stringify({ ...trial, ranks: Object.fromEntries(Array.from({ length: 20_001 }, (_, n) => [n, 1])) }),
      /at most 20000/,
    ],
    ['too many bytes', ' '.repeat(17 * 1024 * 1024), /bytes/],
  ];

  it.each(hostile)('names the file with %s', async (_, content, message) => {
    const path = resultPath(dir, trial.id);
    await writeFile(path, content);
    const failure = await readResults(dir).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(DataError);
    expect(failure).toMatchObject({ path });
    expect((failure as DataError).message).toMatch(message);
    expect((failure as DataError).message).toContain(path);
    expect((failure as DataError).message).not.toContain('\n');
  });

  it('does not accept a prototype from a file', async () => {
    const content = JSON.stringify(trial).replace('"metrics":{', '"metrics":{"__proto__":1,');
    await writeFile(resultPath(dir, trial.id), content);
    const [result] = await readResults(dir);
    expect(Object.getPrototypeOf((result as typeof trial).metrics)).toBe(Object.prototype);
  });
});

describe('run.json', () => {
  const run = {
    reference: 'lora',
    margin: 0.01,
    claims: [{ arm: 'sora', budget: '700', noWorseThan: 'lora', itsBudget: 'r=4', margin: 0.02 }],
  };

  it('holds what a study stated before it was run', async () => {
    await writeRunFile(dir, run);
    expect(await runFileIn(dir)).toEqual(run);
  });

  it('may lack claims; in older folders the summary names the reference', async () => {
    expect(await runFileIn(dir)).toBeUndefined();
    const bare = { reference: 'lora', margin: null, claims: [] };
    await writeFile(`${dir}/summary.json`, JSON.stringify({ reference: 'lora', claims: ['an answer'] }));
    expect(await runFileIn(dir)).toEqual(bare);
    await writeFile(`${dir}/run.json`, '{"reference":"lora"}');
    expect(await runFileIn(dir)).toEqual(bare);
  });
});

describe('storablePredictions', () => {
  const rows = (count: number, value: number | string[]) => Array.from({ length: count }, () => value);

  it('keeps classes, values and lists', () => {
    const all = { predicted: [1, 0.5, ['B-LOC', 'O']], actual: [0, 0.25, ['O', 'O']] };
    expect(storablePredictions(all)).toEqual(all);
  });

  it('drops predictions with too many rows, too many list values, or values that are not numbers', () => {
    const of = (predicted: RowPredictions['predicted']) => storablePredictions({ predicted, actual: predicted });
    expect(of(rows(20_001, 1))).toBeUndefined();
    expect(
      of(
        rows(
          100,
          Array.from({ length: 1001 }, () => 'O'),
        ),
      ),
    ).toBeUndefined();
    expect(of([NaN])).toBeUndefined();
    expect(storablePredictions(undefined)).toBeUndefined();
  });
});

describe('boundedHistory', () => {
  const rows = Array.from({ length: 1000 }, (_, step) => ({ step, ...(step % 100 === 99 ? { metrics: {} } : {}) }));

  it('keeps every evaluation and the order, within the limit', () => {
    const kept = boundedHistory(rows, 50);
    expect(kept).toHaveLength(50);
    expect(kept.filter(({ metrics }) => metrics)).toHaveLength(10);
    expect(kept.map(({ step }) => step)).toEqual(kept.map(({ step }) => step).sort((a, b) => a - b));
  });

  it('thins evaluations too when there are too many, and keeps the last', () => {
    const kept = boundedHistory(rows, 5);
    expect(kept).toHaveLength(5);
    expect(kept.at(-1)?.step).toBe(999);
  });

  it('keeps the ranks of evaluations and of a few rows between them', () => {
    const counted = rows.map((row) => ({ ...row, ...(row.step % 2 === 1 ? { ranks: { query: row.step } } : {}) }));
    const kept = boundedHistory(counted, 200);
    expect(kept).toHaveLength(200);
    const between = kept.filter(({ metrics, ranks }) => !metrics && ranks).map(({ step }) => step);
    expect(between).toHaveLength(40);
    expect(kept.filter(({ metrics, ranks }) => metrics && ranks)).toHaveLength(10);
    const gaps = between.slice(1).map((step, index) => step - (between[index] ?? 0));
    expect(Math.max(...gaps) - Math.min(...gaps)).toBeLessThanOrEqual(4);
  });

  it('keeps a short history unchanged', () => {
    expect(boundedHistory(rows.slice(0, 7))).toEqual(rows.slice(0, 7));
  });
});

/** The text of a deeply nested list. */
function nested(depth: number): string {
  return '['.repeat(depth) + ']'.repeat(depth);
}
