import { watch } from 'node:fs';
import { cp, mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createRng } from '@peftjs/core/method';
import { beforeAll, expect, it } from 'vitest';
import { comparable, differences, startBench, succeeded } from '../../tools/faults/bench.js';
import { temporaryFolder } from '../../tools/vitest/temporary-folder.js';
import { peftBench } from './in-process.js';
import { tinyTask } from './tiny-task.js';

const REPORTS = ['report.html', 'report.md', 'summary.json', 'summary.csv', 'results.csv'];
const SEED = 7;

const folder = temporaryFolder();
let command: readonly string[] = [];
beforeAll(async () => {
  const study = ['--method', 'lora,sora', '--seeds', '4', '--epochs', '10', '--checkpoint-every', '1'];
  command = ['run', ...(await tinyTask(folder, 64)), ...study];
});

/**
 * Runs the study until this many checkpoints were written, then sends a signal.
 * @returns the exit code; null if it was killed
 */
async function interrupted(out: string, checkpoints: number, signal: NodeJS.Signals): Promise<number | null> {
  await mkdir(join(out, 'checkpoints'), { recursive: true });
  let left = checkpoints;
  const run = startBench([...command, '--workers', '2', '--out', out]);
  const watcher = watch(join(out, 'checkpoints'), (_, file) => {
    if (file?.endsWith('.safetensors') && --left === 0) run.process.kill(signal);
  });
  try {
    return await run.ended;
  } finally {
    watcher.close();
  }
}

/**
 * The reports that `peft-bench report` makes of a run's results with all times set to zero: these only differ by
 * numbers.
 */
async function reportsWithoutTimes(out: string): Promise<string[]> {
  const copy = `${out}-timeless`;
  await cp(out, copy, { recursive: true });
  const results = join(copy, 'results');
  for (const file of await readdir(results)) {
    const result = JSON.parse(await readFile(join(results, file), 'utf8')) as object;
    const time = { totalSeconds: 1, trainSeconds: 1, stepMedianMs: 1, compileSeconds: 1 };
    const at = '2026-01-01T00:00:00.000Z';
    const still = { ...result, time, memory: { peakRssBytes: 1 }, startedAt: at, finishedAt: at };
    await writeFile(join(results, file), JSON.stringify(still));
  }
  expect((await peftBench(['report', copy])).code).toBe(0);
  return filesOf(copy);
}

const filesOf = (out: string): Promise<string[]> =>
  Promise.all(REPORTS.map((file) => readFile(join(out, file), 'utf8')));

/** The Markdown report as written by the run, without times, memory and dates. */
async function struckOut(out: string): Promise<string> {
  const report = await readFile(join(out, 'report.md'), 'utf8');
  return report.replace(/[\d.,:]+ (?:s|min|h|ms|MiB)\b/g, '…').replace(/\d{4}-\d\d-\d\d \d\d:\d\d UTC/g, '…');
}

it('a study that is interrupted by each signal ends with the files of an uninterrupted one, including its reports', async () => {
  const [calm, out] = [join(folder, 'undisturbed'), join(folder, 'interrupted')];
  expect((await peftBench([...command, '--out', calm])).code).toBe(0);
  const random = createRng(SEED);
  const signals: NodeJS.Signals[] = ['SIGINT', 'SIGKILL', 'SIGTERM'];
  for (const signal of signals) {
    const code = await interrupted(out, 1 + random.integer(5), signal);
    expect(code, `ended before it could be interrupted by ${signal}`).toBe(signal === 'SIGKILL' ? null : 130);
  }
  await succeeded(startBench([...command, '--workers', '2', '--out', out]));

  expect(differences(await comparable(calm), await comparable(out))).toEqual([]);
  expect((await readdir(out)).sort()).toEqual((await readdir(calm)).sort());
  expect(await struckOut(out)).toBe(await struckOut(calm));
  expect(await reportsWithoutTimes(out)).toEqual(await reportsWithoutTimes(calm));

  const written = await filesOf(out);
  expect((await peftBench(['report', out])).code).toBe(0);
  expect(await filesOf(out)).toEqual(written);
}, 120_000);
