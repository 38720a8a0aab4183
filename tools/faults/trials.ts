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

/** How many trials with dying workers went. */
export interface ManyTrials {
  readonly trials: number;
  readonly kills: number;
  readonly seconds: number;
  readonly exitCode: number | null;
  /** The id of every result that the run told of on stdout. */
  readonly told: readonly string[];
  /** The id of every result file. */
  readonly kept: readonly string[];
}

/** Runs tiny trials over two workers of a Redis, and kills one of them again and again until all is done. */
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
        told: lines.map((line) => (JSON.parse(line) as { id: string }).id),
        kept: [...(await comparable(out)).keys()],
      };
    });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Kills one of the workers every few seconds and starts another, until the run ends; tells how many. */
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
