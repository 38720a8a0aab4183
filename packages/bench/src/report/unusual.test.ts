import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { failedTrial, syntheticTrial, withStages } from '../../../cli/test/synthetic-results.js';
import { renderCsv, renderSummaryCsv, renderMarkdown } from './files.js';
import { renderReport } from './page.js';
import { summarise } from './statistics/summary.js';
import { openResults, readResults, resultPath, writeResult, type DoneTrial } from '@peftjs/cli/results';

const trial = syntheticTrial({ task: 'uci-sentiment', method: 'sora', rank: 4, seed: 1 });
let dir: string;

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'unusual-'));
  await mkdir(join(dir, 'results'));
});
afterEach(() => rm(dir, { recursive: true }));

/** A trial with values that were infinite or NaN at times, but not in the end. */
function diverged(): DoneTrial {
  const [first, ...rest] = trial.history;
  if (!first) throw new RangeError('the trial has no history');
  const worst = { ...first, loss: Infinity, metrics: { accuracy: NaN, perplexity: Infinity } };
  return withStages({ ...trial, history: [worst, ...rest] });
}

function withInfiniteStage(result: DoneTrial): DoneTrial {
  const [first, ...rest] = result.stages ?? [];
  if (!first) throw new RangeError('the trial has no stages');
  return { ...result, stages: [{ ...first, trainMetric: Infinity, memorization: NaN }, ...rest] };
}

describe('a result with non-finite numbers', () => {
  it('is written and read back unchanged', async () => {
    const result = withInfiniteStage(diverged());
    expect(await writeResult(dir, result)).toEqual(result);
    expect(await readFile(resultPath(dir, result.id), 'utf8')).toContain('"loss": "Infinity"');
    expect(await readResults(dir)).toEqual([result]);
  });

  it('is shown in the report, its tables and its charts', async () => {
    const results = [
      withInfiniteStage(diverged()),
      syntheticTrial({ task: 'uci-sentiment', method: 'lora', rank: 4, seed: 1 }),
    ];
    const summary = summarise(results, { reference: 'lora' });
    for (const text of [await renderReport(results, summary), renderMarkdown(results, summary)]) {
      expect(text).toContain('∞');
      expect(text).not.toContain('undefined');
    }
    expect(renderCsv(results)).toContain(trial.id);
    expect(renderSummaryCsv(summary)).toContain('sora');
  });
});

describe('writeResult', () => {
  it('leaves out an option that is undefined', async () => {
    const methodConfig = { r: 4, rankPattern: undefined } as unknown as DoneTrial['methodConfig'];
    await writeResult(dir, { ...trial, methodConfig });
    expect(await readResults(dir)).toMatchObject([{ methodConfig: { r: 4 } }]);
  });

  it('refuses a result that is too long to read back', async () => {
    const long = { ...trial, methodConfig: { note: 'x'.repeat(17 * 1024 * 1024) } };
    await expect(writeResult(dir, long)).rejects.toThrow(/cannot be written: it has \d+ bytes/);
  });
});

describe('openResults', () => {
  it('gives a valid date even after a result with the last possible date', async () => {
    const last = { ...failedTrial(trial, 'no'), id: 'last', finishedAt: '9999-12-31T23:59:59.999Z' };
    await writeResult(dir, last);
    const results = await openResults(dir);
    const result = await results.write(trial);
    expect(result.finishedAt).toBe('9999-12-31T23:59:59.999Z');
    expect(results.all()).toEqual(await readResults(dir));
  });
});

describe('readResults', () => {
  it('refuses a folder with the name of a result', async () => {
    await mkdir(resultPath(dir, trial.id));
    await expect(readResults(dir)).rejects.toThrow(/is not a trial's result: it is not a regular file/);
  });
});
