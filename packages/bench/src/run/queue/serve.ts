import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { Worker as QueueWorker, type Job } from 'bullmq';
import type { Redis } from 'ioredis';
import { PeftError } from '@peftjs/core';
import { formatDuration } from '@peftjs/cli/format';
import { removeCheckpoint, asJson } from '@peftjs/cli/results';
import {
  askWorker,
  ensureAlive,
  throttled,
  WORKER_DIED,
  type Worker as Process,
  type TrialProgress,
  type WorkerOutcome,
} from '@peftjs/cli/trials';
import {
  isQueue,
  KEEP_SECONDS,
  LOCK_MS,
  LOCK_RENEWAL_MS,
  MAX_STALLED,
  PREFIX,
  QUEUES_KEY,
  MAX_TEXT,
  readJob,
  STALLED_MS,
  type Refusal,
  type TrialJob,
  type TrialOutcome,
} from './contract.js';
import { dataFolders, removeUnused, unpackData, type DataFolders } from './data.js';
import { CLOSING_MS, pause, waitUnlessAborted, waitAtMost } from './redis.js';

/** Milliseconds between checks for trials when none waits. */
const IDLE_MS = 500;

/** The settings of a worker. */
export interface ServeOptions {
  /** The worker's name in messages. */
  readonly name: string;
  /** The number of trials at a time. */
  readonly workers: number;
  /** Folder for checkpoints and data. Workers of one machine share it, and resume each other's trials from it. */
  readonly scratch: string;
  /** Reports an event in one line. */
  readonly say: (line: string) => void;
  /** Ends the worker; running trials are given back. */
  readonly signal: AbortSignal;
}

/** Settings that the slots of a worker share. */
type SlotOptions = ServeOptions & { readonly source: TrialSource; readonly folders: DataFolders };

/** Runs the trials of all runs that use a Redis, each in its own process, until the signal. */
export async function serve(redis: Redis, options: ServeOptions): Promise<void> {
  const { workers, signal, scratch } = options;
  await removeUnused(checkpointsIn(scratch), { ms: 1000 * KEEP_SECONDS }); // of trials that ended elsewhere
  const source = openSource(redis, options);
  const folders = dataFolders(scratch);
  const slots = Promise.all(Array.from({ length: workers }, () => runSlot(redis, { ...options, source, folders })));
  try {
    await waitUnlessAborted(signal, slots);
  } finally {
    await waitAtMost(CLOSING_MS, slots);
    await waitAtMost(CLOSING_MS, Promise.all([source.close(), folders.close()]));
  }
}

/** Runs trials one after another in a process, which is replaced if it dies. */
async function runSlot(redis: Redis, options: SlotOptions): Promise<void> {
  const { signal, source } = options;
  let child: Process | undefined;
  while (!signal.aborted) {
    const claimed = await source.next();
    if (claimed) {
      child = ensureAlive(child);
      await runClaimed(redis, child, claimed, options);
    } else {
      await pause(IDLE_MS, signal);
    }
  }
  if (child?.process.connected) child.process.disconnect();
}

/** Runs a trial unless it is lost or the worker is stopped, and reports how it ended. */
async function runClaimed(redis: Redis, child: Process, claimed: ClaimedTrial, options: SlotOptions): Promise<void> {
  const { say, signal } = options;
  const started = performance.now();
  const stop = AbortSignal.any([signal, claimed.lost]);
  const kill = (): void => void child.process.kill('SIGKILL');
  stop.addEventListener('abort', kill);
  say(`started ${claimed.id}`);
  const outcome = stop.aborted ? STOPPED : await outcomeOf(redis, child, claimed, options);
  stop.removeEventListener('abort', kill);
  const how = await release(claimed, outcome, options);
  say(
    `${claimed.lost.aborted ? 'lost' : how} ${claimed.id} after ${formatDuration((performance.now() - started) / 1000)}`,
  );
}

/** Reports a trial's outcome to Redis, or returns the trial to its queue. */
async function release(
  claimed: ClaimedTrial,
  outcome: WorkerOutcome,
  { name, signal, source, scratch }: SlotOptions,
): Promise<string> {
  if (signal.aborted) {
    await waitAtMost(CLOSING_MS, claimed.giveBack());
    return 'gave back';
  }
  if (outcome.type === 'refused') {
    source.refuse(claimed.queue, outcome.reason);
    await claimed.giveBack({ worker: name, refused: outcome.reason.slice(0, MAX_TEXT) || 'no reason' });
    return 'gave back';
  }
  if (outcome.type === 'failed' && outcome.error.code === WORKER_DIED) {
    await claimed.fail(outcome.error.message);
    return `failed (${outcome.error.message})`;
  }
  if (outcome.type === 'done' || outcome.type === 'failed') await claimed.settle(outcome);
  if (!claimed.lost.aborted) await removeCheckpoint(checkpointsIn(scratch), claimed.id);
  return outcome.type;
}

const STOPPED: WorkerOutcome = { type: 'failed', error: { code: WORKER_DIED, message: 'stopped' } };

async function outcomeOf(
  redis: Redis,
  child: Process,
  claimed: ClaimedTrial,
  { scratch, folders }: SlotOptions,
): Promise<WorkerOutcome> {
  try {
    const job = readJob(claimed.id, claimed.content);
    const data = await unpackData(redis, job, folders);
    const { trial, model, checkpointEvery } = job;
    const checkpointing = { checkpoints: checkpointsIn(scratch), ...(checkpointEvery && { checkpointEvery }) };
    return await askWorker(child, { trial, ...checkpointing, at: { model, data } }, claimed.progress);
  } catch (error) {
    return { type: 'refused', reason: (error as Error).message };
  }
}

function checkpointsIn(scratch: string): string {
  return join(scratch, 'checkpoints');
}

/** How long a worker refuses a queue, in milliseconds: a missing folder may appear, or the network may recover. */
const REFUSAL_MS = 5 * 60_000;

/** The source of trials for a worker: all queues of a Redis. */
interface TrialSource {
  /** Claims the next trial for this worker; undefined if none waits, or if Redis fails, which is reported once. */
  next(): Promise<ClaimedTrial | undefined>;
  /** Leaves the trials of a queue to others for a while; reports each reason once. */
  refuse(queue: string, reason: string): void;
  /** Closes all queues. */
  close(): Promise<void>;
}

/** The most queues to keep open: BullMQ opens a connection for each. */
const MOST_QUEUES = 100;

/** Opens queues as runs announce them, and closes them when they end. */
function openSource(redis: Redis, { name, say }: { name: string; say: (line: string) => void }): TrialSource {
  const queues = new Map<string, QueueWorker<TrialJob>>();
  const refusedUntil = new Map<string, number>();
  const reported = new Set<string>();
  let turn = 0;
  let failure = '';
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
    if (closed.length > 0) await redis.del(closed.map(([, worker]) => worker.toKey('meta'))); // this key outlives the queue
  };
  const claim = async (): Promise<ClaimedTrial | undefined> => {
    const announced = (await redis.zrange(QUEUES_KEY, 0, -1)).filter(isQueue);
    const wanted = announced.filter((queue) => (refusedUntil.get(queue) ?? 0) <= performance.now());
    const names = await mostUrgent(redis, wanted);
    await closeAllBut(announced.length > MOST_QUEUES ? names : announced);
    for (let tried = 0; tried < names.length; tried++) {
      const queue = names[turn++ % names.length] as string; // round-robin over queues, oldest trial first
      const token = randomUUID();
      // BullMQ's own type leaves out that there may be none.
      const next: Promise<Job<TrialJob> | undefined> = (await open(queue)).getNextJob(token, { block: false });
      const job = await next;
      if (job) return claimedTrial(job, queue, token);
    }
    return undefined;
  };
  return {
    async next() {
      try {
        const trial = await claim();
        failure = '';
        return trial;
      } catch (error) {
        const { message } = error as Error;
        if (message !== failure) say(`Redis gives no trials: ${message}`);
        failure = message;
        return undefined;
      }
    },
    refuse(queue, reason) {
      refusedUntil.set(queue, performance.now() + REFUSAL_MS);
      if (!reported.has(`${queue} ${reason}`)) say(reason);
      reported.add(`${queue} ${reason}`);
    },
    close: () => closeAllBut([]),
  };
}

/** At most `MOST_QUEUES` of some queues: those in which a job waits, then those whose jobs are running or delayed. */
async function mostUrgent(redis: Redis, queues: readonly string[]): Promise<readonly string[]> {
  if (queues.length <= MOST_QUEUES) return queues;
  const having = async (...states: string[]): Promise<string[]> => {
    const keys = queues.map((queue) => states.map((state) => `${PREFIX}:${queue}:${state}`));
    const counts = await Promise.all(keys.map((some) => redis.exists(some)));
    return queues.filter((_, index) => counts[index] !== 0);
  };
  return [...new Set([...(await having('wait')), ...(await having('active', 'delayed'))])].slice(0, MOST_QUEUES);
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
  return worker.on('error', () => undefined); // the connection reports errors once for all queues
}

/** Milliseconds between reports of a running trial's progress. */
const PROGRESS_MS = 1_000;

/** A trial that a worker holds until it settles it, gives it back, or loses it to another worker. */
interface ClaimedTrial {
  /** The id of the trial. */
  readonly id: string;
  /** The name of its queue. */
  readonly queue: string;
  /** The job's data as they came from Redis, unchecked. */
  readonly content: unknown;
  /** Aborted when Redis no longer counts this worker as the holder. */
  readonly lost: AbortSignal;
  /** Reports progress, at most once per second. */
  progress(progress: TrialProgress): void;
  /** Reports the final outcome. */
  settle(outcome: TrialOutcome): Promise<void>;
  /** Reports that the trial's process died; it will be run again, up to a limit. */
  fail(message: string): Promise<void>;
  /** Returns the trial to its queue, as if it had not been claimed, but with the worker's reason if it refuses it. */
  giveBack(refusal?: Refusal): Promise<void>;
}

/** Holds a job by renewing its lock until it is released. */
function claimedTrial(job: Job<TrialJob>, queue: string, token: string): ClaimedTrial {
  const lost = new AbortController();
  let renewing = false; // while Redis is unreachable, one waiting request is enough
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
  /** Ends the renewal, then changes the job. Redis refuses changes by a worker that has lost the trial. */
  const release = async (change: () => Promise<unknown>): Promise<void> => {
    clearInterval(renewal);
    if (!lost.signal.aborted) await change().catch(lose);
  };
  const report = throttled((progress: TrialProgress) => {
    job.updateProgress(asJson(progress) as object).catch(() => undefined); // the next report will follow
  }, PROGRESS_MS);
  return {
    id: job.id ?? '',
    queue,
    content: job.data,
    lost: lost.signal,
    progress(progress) {
      if (!lost.signal.aborted) report(progress);
    },
    settle: (outcome) => release(() => job.moveToCompleted(asJson(outcome), token, false)),
    fail: (message) => release(() => job.moveToFailed(new PeftError(WORKER_DIED, message), token, false)),
    giveBack: (refusal) =>
      release(async () => {
        if (refusal) await job.updateProgress(refusal);
        await job.moveToWait(token);
      }),
  };
}
