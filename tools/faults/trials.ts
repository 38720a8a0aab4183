import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { createRng } from '@peftjs/core';
import { comparable, kill, startBench, startWorker, TINY_MODEL, type Bench } from './bench.js';
import { startRedis } from './redis.js';

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
  const redis = await startRedis();
  const scratch = join(folder, 'scratch');
  const workers = [startWorker(redis.url, scratch), startWorker(redis.url, scratch)];
  const started = performance.now();
  try {
    const out = join(folder, 'out');
    const run = startBench([...(await writeStudy(folder, trials)), '--queue', redis.url, '--out', out, '--json']);
    const kills = await killEvery(everySeconds, { run, workers, seed, start: () => startWorker(redis.url, scratch) });
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
  } finally {
    await Promise.all(workers.map(kill));
    await redis.stop();
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
    const code = await Promise.race([run.ended, setTimeout(pause, undefined, { ref: false })]);
    if (code !== undefined) return kills;
    const at = random.integer(workers.length);
    await kill(workers[at] as Bench);
    workers[at] = start();
  }
}

/** As many seeds as there are trials, of one method on very few rows. */
async function writeStudy(folder: string, seeds: number): Promise<string[]> {
  const config = join(folder, 'study.json');
  const protocol = { epochs: 1, rows: 48, devRows: 16, batchSize: 16, evaluations: 1 };
  await writeFile(config, JSON.stringify({ seeds, protocol }));
  return ['run', '--preset', 'smoke', '--config', config, '--model', TINY_MODEL, '--method', 'lora'];
}
