import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { createRng } from '@peftjs/core/method';
import { checkpointOwners, unfinishedFolder } from '../../packages/cli/src/results/folder.js';
import {
  adapterFiles,
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

/**
 * What is killed: a run with its own processes, a run with a queue, a worker of the queue, Redis, which may lose its
 * data, or the training of one adapter.
 */
export const TARGETS = ['parent', 'parent-of-queue', 'worker', 'redis', 'forgetful-redis', 'train'] as const;
/** What is killed. */
export type Target = (typeof TARGETS)[number];

/** The outcome of kills at random moments. */
export interface Outcome {
  /** What was killed. */
  readonly target: Target;
  /** The number of kills. */
  readonly kills: number;
  /** The number of runs of the command that these kills needed. */
  readonly rounds: number;
  /** The number of files that each run is compared by: one per trial, or those of the adapter. */
  readonly files: number;
  /** The duration. */
  readonly seconds: number;
  /** The differences from an undisturbed run. */
  readonly differences: readonly string[];
}

/** A command that has run once, undisturbed. */
export interface Subject {
  /** The folder of all runs. */
  readonly folder: string;
  /** The command, without its output folder. */
  readonly command: readonly string[];
  /** Reads what is compared in an output folder, by name. */
  readonly read: (out: string) => Promise<ReadonlyMap<string, string>>;
  /** What the undisturbed run has left. */
  readonly expected: ReadonlyMap<string, string>;
  /** The duration of the undisturbed run, once it loads its model. */
  readonly milliseconds: number;
}

/** Writes a study that takes some seconds, and runs it once. */
export async function undisturbed(
  folder: string,
  { seeds, epochs }: { seeds: number; epochs: number },
): Promise<Subject> {
  const protocol = { epochs, rows: 160, devRows: 64, batchSize: 8 };
  const command = await writeStudy(folder, 'lora,sora', { seeds, protocol });
  return ranOnce({ folder, command, read: comparable }, ['--workers', '2']);
}

/** Trains an adapter that chooses its size, so in stages, for some seconds. */
export async function undisturbedTraining(folder: string, { epochs }: { epochs: number }): Promise<Subject> {
  const protocol = { epochs, rows: 160, devRows: 64, batchSize: 8 };
  const command = await writeStudy(folder, 'sora', { protocol }, 'train');
  return ranOnce({ folder, command: [...command, '--budget', 'auto'], read: adapterFiles });
}

async function ranOnce(
  subject: Pick<Subject, 'folder' | 'command' | 'read'>,
  flags: readonly string[] = [],
): Promise<Subject> {
  const out = join(subject.folder, 'undisturbed', 'out'); // a card says its folder's name
  const run = startBench([...subject.command, ...flags, '--out', out]);
  await untilLoading(run);
  const started = performance.now();
  await succeeded(run);
  const milliseconds = performance.now() - started;
  return { ...subject, expected: await subject.read(out), milliseconds };
}

/** Kills at random moments, `kills` times in all, and compares every run with the undisturbed one. */
export async function killAtRandom(
  target: Target,
  { folder, command, read, expected, milliseconds }: Subject,
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
    wrong.push(...differences(expected, await read(round.out)));
  }
  const seconds = (performance.now() - started) / 1000;
  return { target, kills: killed, rounds, files: expected.size, seconds, differences: wrong };
}

/** One run of the command, and how it is disturbed. */
interface Round {
  /** The command. */
  readonly command: readonly string[];
  /** The output folder. */
  readonly out: string;
  /** The scratch folder of the workers. */
  readonly scratch: string;
  /** Returns the milliseconds until the next kill. */
  readonly moment: () => number;
  /** The number of kills left. */
  readonly most: number;
}

/** Runs a command to its end, and returns how often something was killed meanwhile. */
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
  train: ({ command, out, moment, most }) =>
    killParent(
      [...command, '--out', out],
      { moment, most: Math.min(most, KILLS_PER_TRAINING) },
      () => isFinished(out), // the process may be killed while it says so
    ),
};

/** Whether a training has nothing left to do. */
function isFinished(out: string): boolean {
  return existsSync(join(out, 'adapter_config.json')) && checkpointOwners(unfinishedFolder(out)).length === 0;
}

/** How often one training is killed, so that many are compared with the undisturbed one. */
const KILLS_PER_TRAINING = 2;

async function killParent(
  args: readonly string[],
  { moment, most }: Pick<Round, 'moment' | 'most'>,
  isDone: () => boolean = () => false,
): Promise<number> {
  for (let killed = 0; ; killed++) {
    const run = startBench(args);
    await untilLoading(run);
    if (killed === most || (await endedWithin(run, moment())) !== undefined) {
      await succeeded(run);
      return killed;
    }
    await kill(run);
    if (isDone()) return killed + 1;
  }
}

function killRedis({ command, out, ...round }: Round, forgetful: boolean): Promise<number> {
  return withWorkers(round.scratch, { persistent: !forgetful }, async (redis) => {
    const run = startBench([...command, '--queue', redis.url, '--out', out]);
    await untilLoading(run); // before that, a run refuses an unreachable Redis
    return whileRunning(run, round, async () => {
      await redis.kill();
      await setTimeout(round.moment() / 10);
      await redis.restart({ forgetful });
    });
  });
}

/** Waits until a run loads its model, which it does after reaching its queue and before it writes anything. */
async function untilLoading(run: Bench): Promise<void> {
  while (!run.stderr().includes(': loading ') && (await endedWithin(run, 50)) === undefined);
}

/** Disturbs a run at random moments until it ends. Returns how often. */
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
