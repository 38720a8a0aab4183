import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createRng } from '@peftjs/core/method';
import {
  comparable,
  endedWithin,
  kill,
  startBench,
  startWorker,
  withWorkers,
  writeStudy,
  type Bench,
} from './bench.js';

/** The outcome of trials with dying workers. */
export interface ManyTrials {
  /** The number of trials. */
  readonly trials: number;
  /** The number of workers killed. */
  readonly kills: number;
  /** The duration. */
  readonly seconds: number;
  /** The exit code of the run; null if it was killed. */
  readonly exitCode: number | null;
  /** The ids of the results that the run reported on stdout. */
  readonly reported: readonly string[];
  /** The ids of the result files. */
  readonly kept: readonly string[];
}

/** Runs tiny trials over two workers of a Redis, and kills a worker every few seconds until all trials are done. */
export async function manyTrials(options: {
  readonly trials: number;
  readonly everySeconds: number;
  readonly seed: number;
}): Promise<ManyTrials> {
  const { trials, everySeconds, seed } = options;
  const folder = await mkdtemp(join(tmpdir(), 'peftjs-many-'));
  const [scratch, out] = [join(folder, 'scratch'), join(folder, 'out')];
  const protocol = { epochs: 1, rows: 48, devRows: 16, batchSize: 16, evaluations: 1 };
  const study = await writeStudy(folder, 'lora', { seeds: trials, protocol });
  try {
    return await withWorkers(scratch, {}, async ({ url }, workers) => {
      const started = performance.now();
      const run = startBench([...study, '--queue', url, '--out', out, '--json']);
      const kills = await killEvery(everySeconds, { run, workers, seed, start: () => startWorker(url, scratch) });
      const exitCode = await run.ended;
      const lines = run.stdout().trim().split('\n').filter(Boolean);
      return {
        trials,
        kills,
        seconds: (performance.now() - started) / 1000,
        exitCode,
        reported: lines.map((line) => (JSON.parse(line) as { id: string }).id),
        kept: [...(await comparable(out)).keys()],
      };
    });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Kills a worker every few seconds and starts another, until the run ends. Returns the number of kills. */
async function killEvery(
  seconds: number,
  { run, workers, seed, start }: { run: Bench; workers: Bench[]; seed: number; start: () => Bench },
): Promise<number> {
  const random = createRng(seed);
  for (let kills = 0; ; kills++) {
    const pause = 1000 * seconds * (0.5 + random.uniform());
    if ((await endedWithin(run, pause)) !== undefined) return kills;
    const at = random.integer(workers.length);
    await kill(workers[at] as Bench);
    workers[at] = start();
  }
}
