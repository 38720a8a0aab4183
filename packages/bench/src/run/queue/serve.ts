import { randomUUID } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Worker as QueueWorker, type Job } from 'bullmq';
import type { Redis } from 'ioredis';
import { PeftError } from '@peftjs/core';
import { formatDuration } from '../../report/format.js';
import { checkpointPath } from '../../results/folder.js';
import { asJson } from '../../results/json.js';
import { askWorker, livingWorker, type Worker as Process } from '../processes.js';
import { throttled, type TrialProgress } from '../recorder.js';
import { WORKER_DIED, type WorkerOutcome } from '../runner.js';
import {
  announce,
  leave,
  LOCK_MS,
  LOCK_RENEWAL_MS,
  MAX_STALLED,
  PREFIX,
  QUEUES_KEY,
  readJob,
  STALLED_MS,
  type TrialJob,
  type TrialOutcome,
} from './contract.js';
import { dataFolders, unpackData, type DataFolders } from './data.js';
import { CLOSING_MS, pause, unlessAborted, within } from './redis.js';

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

/** What a worker cannot run today it may be able to run in a while: a folder is there, the network is back. */
const REFUSAL_MS = 5 * 60_000;

/** The trials that a worker may take, from all queues of a Redis. */
interface Inbox {
  /** The next trial, locked for this worker; undefined where none waits. */
  next(): Promise<TakenTrial | undefined>;
  /** Leaves the trials of a queue to others for a while; says so once. */
  refuse(queue: string, reason: string): void;
  /** Why trials are left to others, by queue. */
  refused(): Record<string, string>;
  close(): Promise<void>;
}

/** Opens the queues that are asked, and follows as they come and go. */
function openInbox(redis: Redis, { name, say }: { name: string; say: (line: string) => void }): Inbox {
  const queues = new Map<string, QueueWorker<TrialJob>>();
  const refusals = openRefusals(say);
  let turn = 0;
  const open = async (queue: string): Promise<QueueWorker<TrialJob>> => {
    const worker = queues.get(queue) ?? openWorker(redis, queue, name);
    if (!queues.has(queue)) {
      queues.set(queue, worker);
      await worker.startStalledCheckTimer();
    }
    return worker;
  };
  const closeAllBut = async (names: readonly string[]): Promise<void> => {
    const closed = [...queues].filter(([queue]) => !names.includes(queue));
    for (const [queue] of closed) queues.delete(queue);
    await Promise.all(closed.map(([, worker]) => worker.close(true)));
    if (closed.length > 0) await redis.del(closed.map(([, worker]) => worker.toKey('meta'))); // it outlives the queue
  };
  return {
    async next() {
      const asked = await redis.zrange(QUEUES_KEY, 0, -1);
      await closeAllBut(asked);
      const names = asked.filter((queue) => !refusals.has(queue));
      for (let tried = 0; tried < names.length; tried++) {
        const queue = names[turn++ % names.length] as string; // the queues in turn, each from its oldest trial on
        const token = randomUUID();
        const job = await (await open(queue)).getNextJob(token, { block: false });
        if (job) return takenTrial(job, queue, token);
      }
      return undefined;
    },
    refuse: refusals.add,
    refused: refusals.current,
    close: () => closeAllBut([]),
  };
}

/** Queues that are left to others, and why. */
function openRefusals(say: (line: string) => void) {
  const refusals = new Map<string, { readonly reason: string; readonly until: number }>();
  const said = new Set<string>();
  const has = (queue: string): boolean => (refusals.get(queue)?.until ?? 0) > performance.now();
  return {
    has,
    add(queue: string, reason: string): void {
      refusals.set(queue, { reason, until: performance.now() + REFUSAL_MS });
      if (!said.has(`${queue} ${reason}`)) say(reason);
      said.add(`${queue} ${reason}`);
    },
    current(): Record<string, string> {
      return Object.fromEntries(
        [...refusals].filter(([queue]) => has(queue)).map(([queue, { reason }]) => [queue, reason]),
      );
    },
  };
}

function openWorker(redis: Redis, queue: string, name: string): QueueWorker<TrialJob> {
  const worker = new QueueWorker<TrialJob>(queue, null, {
    connection: redis,
    prefix: PREFIX,
    name,
    autorun: false,
    lockDuration: LOCK_MS,
    stalledInterval: STALLED_MS,
    maxStalledCount: MAX_STALLED,
    skipVersionCheck: true,
  });
  return worker.on('error', () => undefined); // the connection itself tells, once for all queues
}

/** Between two words of a running trial's progress. */
const PROGRESS_MS = 1_000;

/** A trial that a worker has until it settles it, gives it back, or loses it to another one. */
interface TakenTrial {
  readonly id: string;
  readonly queue: string;
  /** As it came from Redis. */
  readonly content: unknown;
  /** Aborted when Redis no longer knows that this worker has it. */
  readonly lost: AbortSignal;
  progress(progress: TrialProgress): void;
  /** How it ended for good. */
  settle(outcome: TrialOutcome): Promise<void>;
  /** The process that ran it died: it is run again, a few times at most. */
  fail(message: string): Promise<void>;
  /** Lets another worker have it, as if it had not been taken. */
  giveBack(): Promise<void>;
}

/** Keeps a job locked: says again and again that somebody is at it, until it is let go. */
function takenTrial(job: Job<TrialJob>, queue: string, token: string): TakenTrial {
  const lost = new AbortController();
  let renewing = false; // what is asked of a Redis that is away waits, and once is enough
  const renewal = setInterval(() => {
    if (renewing) return;
    renewing = true;
    job
      .extendLock(token, LOCK_MS)
      .then((extended) => {
        if (extended === 0) lose();
      }, lose)
      .finally(() => {
        renewing = false;
      });
  }, LOCK_RENEWAL_MS);
  const lose = (): void => {
    clearInterval(renewal);
    lost.abort();
  };
  /** Redis refuses what comes from a worker that has lost the trial. */
  const letGo = async (change: () => Promise<unknown>): Promise<void> => {
    clearInterval(renewal);
    if (!lost.signal.aborted) await change().catch(lose);
  };
  const tell = throttled((progress: TrialProgress) => {
    job.updateProgress(asJson(progress) as object).catch(() => undefined); // the next one will do
  }, PROGRESS_MS);
  return {
    id: job.id ?? '',
    queue,
    content: job.data,
    lost: lost.signal,
    progress(progress) {
      if (!lost.signal.aborted) tell(progress);
    },
    settle: (outcome) => letGo(() => job.moveToCompleted(asJson(outcome), token, false)),
    fail: (message) => letGo(() => job.moveToFailed(new PeftError(WORKER_DIED, message), token, false)),
    giveBack: () => letGo(() => job.moveToWait(token)),
  };
}
