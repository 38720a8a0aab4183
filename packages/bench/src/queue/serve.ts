import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Redis } from 'ioredis';
import { formatDuration } from '../report/format.js';
import { checkpointPath } from '../results/folder.js';
import { WORKER_DIED, type WorkerOutcome } from '../workers/messages.js';
import { askWorker, livingWorker, type Worker as Process } from '../workers/process.js';
import { readJob } from './contract.js';
import { dataFolders, type DataFolders } from './data-folders.js';
import { openInbox, type Inbox } from './inbox.js';
import { announce, leave } from './presence.js';
import type { TakenTrial } from './taken.js';
import { unpackData } from './travel.js';
import { CLOSING_MS, pause, unlessAborted, within } from './waiting.js';

/** How long a worker rests when no trial waits. */
const IDLE_MS = 500;
/** How often a worker says that it is there. */
const ANNOUNCE_MS = 3_000;

/** How a worker works. */
export interface ServeOptions {
  readonly name: string;
  /** Trials at a time. */
  readonly workers: number;
  /** Folder for checkpoints and data; workers of one machine share it, and go on there with each other's trials. */
  readonly scratch: string;
  /** Told in one line what happens. */
  readonly say: (line: string) => void;
  /** Ends it; trials under way are given back. */
  readonly signal: AbortSignal;
}

type PlaceOptions = ServeOptions & { readonly inbox: Inbox; readonly folders: DataFolders };

/** Runs the trials of all runs that ask a Redis, each in a process of its own, until the signal. */
export async function serve(redis: Redis, options: ServeOptions): Promise<void> {
  const { name, workers, signal, scratch } = options;
  const inbox = openInbox(redis, options);
  const folders = dataFolders(scratch);
  const hello = (): void => void announce(redis, { name, refused: inbox.refused() }).catch(() => undefined);
  hello();
  const presence = setInterval(hello, ANNOUNCE_MS);
  const places = Promise.all(Array.from({ length: workers }, () => runPlace(redis, { ...options, inbox, folders })));
  try {
    await unlessAborted(signal, places);
  } finally {
    clearInterval(presence);
    await within(CLOSING_MS, places);
    await within(CLOSING_MS, Promise.all([leave(redis, name), inbox.close(), folders.close()]));
  }
}

/** One place of a worker: a process that is replaced when it dies. */
async function runPlace(redis: Redis, options: PlaceOptions): Promise<void> {
  const { signal, inbox, say } = options;
  let child: Process | undefined;
  while (!signal.aborted) {
    const taken = await inbox.next().catch((error: unknown) => {
      say(`Redis refuses to give trials: ${(error as Error).message}`);
    });
    if (taken) {
      child = livingWorker(child);
      await runTaken(redis, child, taken, options);
    } else {
      await pause(IDLE_MS, signal);
    }
  }
  if (child?.process.connected) child.process.disconnect();
}

/** Runs a trial, unless it is lost or the worker is stopped, and says how it ended. */
async function runTaken(redis: Redis, child: Process, taken: TakenTrial, options: PlaceOptions): Promise<void> {
  const { say, signal } = options;
  const started = performance.now();
  const stop = AbortSignal.any([signal, taken.lost]);
  const kill = (): void => void child.process.kill('SIGKILL');
  stop.addEventListener('abort', kill);
  say(`took ${taken.id}`);
  const outcome = stop.aborted ? STOPPED : await outcomeOf(redis, child, taken, options);
  stop.removeEventListener('abort', kill);
  const how = await letGo(taken, outcome, options);
  say(`${taken.lost.aborted ? 'lost' : how} ${taken.id} after ${formatDuration((performance.now() - started) / 1000)}`);
}

/** Tells Redis how a trial ended, or that others may have it. */
async function letGo(
  taken: TakenTrial,
  outcome: WorkerOutcome,
  { signal, inbox, scratch }: PlaceOptions,
): Promise<string> {
  if (signal.aborted) {
    await within(CLOSING_MS, taken.giveBack());
    return 'gave back';
  }
  if (outcome.type === 'refused') {
    inbox.refuse(taken.queue, outcome.reason);
    await taken.giveBack();
    return 'gave back';
  }
  if (outcome.type === 'failed' && outcome.error.code === WORKER_DIED) {
    await taken.fail(outcome.error.message);
    return `failed (${outcome.error.message})`;
  }
  if (outcome.type !== 'started') await taken.settle(outcome);
  if (!taken.lost.aborted) await rm(checkpointPath(checkpointsIn(scratch), taken.id), { force: true });
  return outcome.type;
}

const STOPPED: WorkerOutcome = { type: 'failed', error: { code: WORKER_DIED, message: 'stopped' } };

async function outcomeOf(
  redis: Redis,
  child: Process,
  taken: TakenTrial,
  { scratch, folders }: PlaceOptions,
): Promise<WorkerOutcome> {
  try {
    const job = readJob(taken.id, taken.content);
    const data = await unpackData(redis, job, folders);
    const { trial, model, checkpointEvery } = job;
    const keeping = { checkpoints: checkpointsIn(scratch), ...(checkpointEvery && { checkpointEvery }) };
    return await askWorker(child, { trial, ...keeping, at: { model, data } }, taken.progress);
  } catch (error) {
    return { type: 'refused', reason: (error as Error).message };
  }
}

function checkpointsIn(scratch: string): string {
  return join(scratch, 'checkpoints');
}
