import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { createRng } from '@peftjs/core/method';
import {
  comparable,
  differences,
  endedWithin,
  kill,
  startBench,
  startWorker,
  succeeded,
  withWorkers,
  writeStudy,
  type Bench,
} from './bench.js';

/** What is killed: a run with processes of its own, a run that has a queue, a worker of the queue, or Redis. */
export const TARGETS = ['parent', 'parent-of-queue', 'worker', 'redis', 'forgetful-redis'] as const;
export type Target = (typeof TARGETS)[number];

/** How kills at random moments went. */
export interface Outcome {
  readonly target: Target;
  readonly kills: number;
  /** Runs of the study that it took to have so many moments. */
  readonly rounds: number;
  readonly trials: number;
  readonly seconds: number;
  /** What is not as in an undisturbed run. */
  readonly differences: readonly string[];
}

/** A study that has run once, undisturbed. */
export interface Subject {
  readonly folder: string;
  /** The command, without where it runs. */
  readonly command: readonly string[];
  readonly expected: ReadonlyMap<string, string>;
  readonly milliseconds: number;
}

/** Writes a study, some seconds long, and runs it once. */
export async function undisturbed(
  folder: string,
  { seeds, epochs }: { seeds: number; epochs: number },
): Promise<Subject> {
  const protocol = { epochs, rows: 160, devRows: 64, batchSize: 8 };
  const command = await writeStudy(folder, 'lora,sora', { seeds, protocol });
  const out = join(folder, 'undisturbed');
  const started = performance.now();
  await succeeded(startBench([...command, '--workers', '2', '--out', out]));
  return { folder, command, expected: await comparable(out), milliseconds: performance.now() - started };
}

/** Kills until there were so many, and compares every run with the one that nothing disturbed. */
export async function killAtRandom(
  target: Target,
  { folder, command, expected, milliseconds }: Subject,
  { kills, seed }: { readonly kills: number; readonly seed: number },
): Promise<Outcome> {
  const random = createRng(seed);
  const moment = (): number => random.uniform() * milliseconds;
  const wrong: string[] = [];
  const started = performance.now();
  let [killed, rounds] = [0, 0];
  while (killed < kills) {
    const place = join(folder, `${target}-${rounds++}`);
    const round = { command, out: join(place, 'out'), scratch: join(place, 'scratch'), moment, most: kills - killed };
    killed += await ROUNDS[target](round);
    wrong.push(...differences(expected, await comparable(round.out)));
  }
  const seconds = (performance.now() - started) / 1000;
  return { target, kills: killed, rounds, trials: expected.size, seconds, differences: wrong };
}

/** One run of the study, and what disturbs it. */
interface Round {
  readonly command: readonly string[];
  readonly out: string;
  readonly scratch: string;
  /** Milliseconds until the next kill. */
  readonly moment: () => number;
  /** Kills that are left. */
  readonly most: number;
}

/** Runs a study to its end and tells how often something was killed meanwhile. */
const ROUNDS: Readonly<Record<Target, (round: Round) => Promise<number>>> = {
  parent: ({ command, out, ...round }) => killParent([...command, '--workers', '2', '--out', out], round),
  'parent-of-queue': ({ command, out, ...round }) =>
    withWorkers(round.scratch, {}, ({ url }) => killParent([...command, '--queue', url, '--out', out], round)),
  worker: ({ command, out, ...round }) =>
    withWorkers(round.scratch, {}, async ({ url }, workers) => {
      const run = startBench([...command, '--queue', url, '--out', out]);
      return whileRunning(run, round, async (count) => {
        const at = count % workers.length;
        await kill(workers[at] as Bench);
        workers[at] = startWorker(url, round.scratch);
      });
    }),
  redis: (round) => killRedis(round, false),
  'forgetful-redis': (round) => killRedis(round, true),
};

async function killParent(args: readonly string[], { moment, most }: Pick<Round, 'moment' | 'most'>): Promise<number> {
  for (let killed = 0; ; killed++) {
    const run = startBench(args);
    if (killed === most || (await endedWithin(run, moment())) !== undefined) {
      await succeeded(run);
      return killed;
    }
    await kill(run);
  }
}

function killRedis({ command, out, ...round }: Round, forgetful: boolean): Promise<number> {
  return withWorkers(round.scratch, { persistent: !forgetful }, async (redis) => {
    const run = startBench([...command, '--queue', redis.url, '--out', out]);
    await untilConnected(run); // before that a run refuses a Redis that does not answer, and says so
    return whileRunning(run, round, async () => {
      await redis.kill();
      await setTimeout(round.moment() / 10);
      await redis.restart({ forgetful });
    });
  });
}

/** A run loads its model once it has reached its queue. */
async function untilConnected(run: Bench): Promise<void> {
  while (!run.stderr().includes(': loading ') && (await endedWithin(run, 50)) === undefined);
}

/** Disturbs a run at moments, from when it is in the middle of it, until it ends. */
async function whileRunning(
  run: Bench,
  { moment, most }: Pick<Round, 'moment' | 'most'>,
  disturb: (count: number) => Promise<void>,
): Promise<number> {
  for (let count = 0; ; count++) {
    if (count === most || (await endedWithin(run, moment())) !== undefined) {
      await succeeded(run);
      return count;
    }
    await disturb(count);
  }
}
