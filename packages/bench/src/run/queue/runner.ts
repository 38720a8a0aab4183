import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { Job, Queue } from 'bullmq';
import type { Redis } from 'ioredis';
import type { PeftError } from '@peftjs/core';
import { commandName } from '../../registry/command-name.js';
import type { Trial } from '../../study/trials.js';
import { WORKER_DIED, type TrialEvents, type TrialRunner } from '../runner.js';
import {
  JOB_OPTIONS,
  KEEP_SECONDS,
  PREFIX,
  presentWorkers,
  queueOf,
  QUEUES_KEY,
  readOutcome,
  readProgress,
  type Presence,
  type RedisAddress,
  type TrialJob,
  type TrialOutcome,
} from './contract.js';
import { packData, sendData, type PackedData } from './data.js';
import { CLOSING_MS, connectRedis, pause, unlessAborted, within } from './redis.js';

/** How often trials are looked at. */
const TICK_MS = 1_000;
/** Waiting trials that are looked at in one tick; those that are being run are always looked at. */
const LOOKS = 200;

/** A run as its trials see it while they are with the workers. */
interface Asked {
  readonly events: TrialEvents;
  /** The trials without an outcome, by id, the one that was not looked at for longest first. */
  readonly pending: Map<string, Trial>;
  /** Of those, the ones that a worker is at, and the last that was heard of them. */
  readonly running: Map<string, string>;
}

/**
 * Hands trials to the workers of a Redis, and takes their results back. Redis is a messenger and nothing more: what it forgets is
 * asked for again, and a result counts once, when it is in the folder of the run.
 * @throws ConfigError when there is no usable Redis.
 */
export async function queueRunner(
  address: RedisAddress,
  keeping: Pick<TrialJob, 'checkpointEvery'> = {},
): Promise<TrialRunner> {
  let note: TrialEvents['onNote'] = () => undefined;
  const redis = await connectRedis(address, {
    onLost: (reason) => note(`lost ${address.shown} (${reason}); the run goes on when it is back`),
    onBack: () => note(`${address.shown} is back`),
  });
  const queues = openQueues(redis, keeping);
  return {
    async run(trials, events, signal) {
      note = events.onNote;
      const asked: Asked = { events, pending: new Map(trials.map((trial) => [trial.id, trial])), running: new Map() };
      await unlessAborted(signal, ask(queues, asked, address, signal));
      if (signal.aborted) await within(CLOSING_MS, withdraw(queues, asked));
    },
    async close() {
      note = () => undefined;
      await within(CLOSING_MS, queues.close());
      redis.disconnect();
    },
  };
}

/** Looks at the trials again and again until each has an outcome. */
async function ask(queues: Queues, asked: Asked, { shown }: RedisAddress, signal: AbortSignal): Promise<void> {
  const whyIdle = idleReasons(queues.redis, shown);
  let refusal = '';
  while (asked.pending.size > 0 && !signal.aborted) {
    try {
      await queues.keepOpen(asked.pending.values());
      for (const trial of nextToLookAt(asked)) await look(queues, trial, asked);
      for (const reason of await whyIdle(idleQueues(asked))) asked.events.onNote(reason);
    } catch (error) {
      const { name, message } = error as Error;
      if (name !== 'ReplyError') throw error;
      if (message !== refusal) asked.events.onNote(`${shown} refuses: ${message}; the run tries again`); // it is full, say
      refusal = message;
    }
    if (asked.pending.size > 0) await pause(TICK_MS, signal);
  }
}

/** Those that are being run, and as many of the others as one tick can look at; they come last in the next one. */
function nextToLookAt({ pending, running }: Asked): Trial[] {
  const [atWork, waiting] = [true, false].map((isRunning) =>
    [...pending.values()].filter(({ id }) => running.has(id) === isRunning),
  ) as [Trial[], Trial[]];
  const next = waiting.slice(0, LOOKS);
  for (const trial of next) {
    pending.delete(trial.id);
    pending.set(trial.id, trial);
  }
  return [...atWork, ...next];
}

/** The queues with trials that wait, and none that a worker is at; a trial of each. */
function idleQueues({ pending, running }: Asked): Map<string, Trial> {
  const idle = new Map([...pending.values()].map((trial) => [queueOf(trial), trial] as const));
  for (const id of running.keys()) {
    const trial = pending.get(id);
    if (trial) idle.delete(queueOf(trial));
  }
  return idle;
}

/** Takes what there is of a trial: nothing, its progress, or its outcome. */
async function look(queues: Queues, trial: Trial, asked: Asked): Promise<void> {
  const job = await jobOf(queues, trial);
  if (job instanceof SyntaxError) {
    await giveUp(queues, trial, job, asked);
  } else if (!job) {
    asked.running.delete(trial.id);
    await queues.add(trial);
  } else if (job.finishedOn !== undefined) {
    await settle(job, trial, asked);
  } else if (job.processedOn !== undefined && (await job.isActive())) {
    follow(job, trial, asked);
  } else if (asked.running.delete(trial.id)) {
    const message = `${job.failedReason || 'its worker let it go'}; it waits for a worker again`;
    asked.events.onRetry(trial, { code: WORKER_DIED, message });
  }
}

/** A trial's job; a SyntaxError where Redis holds something for it that BullMQ did not write. */
async function jobOf(queues: Queues, trial: Trial): Promise<Job<TrialJob, unknown> | SyntaxError | undefined> {
  try {
    return await Job.fromId<TrialJob, unknown>(queues.of(trial), trial.id);
  } catch (error) {
    if (error instanceof SyntaxError) return error;
    throw error;
  }
}

async function giveUp(queues: Queues, trial: Trial, reason: SyntaxError, asked: Asked): Promise<void> {
  const { pending, running, events } = asked;
  if (!running.has(trial.id)) events.onStart(trial);
  await events.onFailed(trial, {
    code: 'PEFT_DATA',
    message: `what Redis holds of it cannot be read: ${reason.message}`,
  });
  pending.delete(trial.id);
  running.delete(trial.id);
  await queues.of(trial).remove(trial.id);
}

function follow({ progress }: Job, trial: Trial, { running, events }: Asked): void {
  if (!running.has(trial.id)) events.onStart(trial);
  const said = JSON.stringify(progress);
  const step = running.get(trial.id) === said ? undefined : readProgress(progress);
  if (step) events.onProgress(trial, step);
  running.set(trial.id, said);
}

/** The outcome of a trial counts once: it is taken, then forgotten by Redis. */
async function settle(job: Job<TrialJob, unknown>, trial: Trial, { pending, running, events }: Asked): Promise<void> {
  if (!running.has(trial.id)) events.onStart(trial);
  const outcome = outcomeOf(job, trial);
  if (outcome.type === 'done') await events.onDone(trial, outcome.result);
  else await events.onFailed(trial, outcome.error);
  pending.delete(trial.id);
  running.delete(trial.id);
  await job.remove().catch(() => undefined); // another run may have taken it
}

function outcomeOf({ returnvalue, failedReason }: Job<TrialJob, unknown>, trial: Trial): TrialOutcome {
  if (returnvalue === null || returnvalue === undefined) {
    return { type: 'failed', error: { code: WORKER_DIED, message: failedReason || 'its worker went away' } };
  }
  try {
    return readOutcome(trial, returnvalue);
  } catch (error) {
    const { code, message } = error as PeftError;
    return { type: 'failed', error: { code, message } };
  }
}

/** Takes back what no worker has begun. What one is at goes on; the same run finds its result. */
async function withdraw(queues: Queues, { pending }: Asked): Promise<void> {
  for (const trial of pending.values()) {
    const job = await jobOf(queues, trial);
    if (job instanceof SyntaxError) continue;
    if (job?.finishedOn === undefined) await job?.remove().catch(() => undefined); // a worker has it
  }
}

/** The queues of a run's trials, and what goes to Redis with them. */
interface Queues {
  readonly redis: Redis;
  of(trial: Trial): Queue;
  /** Asks for a trial; one that is asked for already is not asked for twice. */
  add(trial: Trial): Promise<void>;
  /** Tells workers which queues are asked, those of the earlier trials first, and sees to it that the data are there. */
  keepOpen(trials: Iterable<Trial>): Promise<void>;
  /** Leaves nothing behind of queues that are empty. */
  close(): Promise<void>;
}

/** The queues of one run in a Redis. */
function openQueues(redis: Redis, keeping: Pick<TrialJob, 'checkpointEvery'>): Queues {
  const open = new Map<string, Queue>();
  const packed = new Map<string, Promise<PackedData>>();
  const of = (trial: Trial): Queue => {
    const name = queueOf(trial);
    const queue = open.get(name) ?? openQueue(redis, name);
    open.set(name, queue);
    return queue;
  };
  return {
    redis,
    of,
    async add(trial) {
      const pack = packed.get(trial.task) ?? packData(trial);
      packed.set(trial.task, pack);
      await sendData(redis, await pack);
      await of(trial).add('trial', { ...newJob(trial, await pack), ...keeping }, { ...JOB_OPTIONS, jobId: trial.id });
    },
    async keepOpen(trials) {
      const now = Date.now();
      const names = [...new Set([...trials].map(queueOf))];
      await redis.zremrangebyscore(QUEUES_KEY, 0, now - 1000 * KEEP_SECONDS);
      await redis.zadd(QUEUES_KEY, ...names.flatMap((name, index) => [now + index, name]));
      for (const pack of packed.values()) await sendData(redis, await pack);
    },
    async close() {
      for (const queue of open.values()) await closeQueue(redis, queue);
    },
  };
}

function openQueue(redis: Redis, name: string): Queue {
  const queue = new Queue(name, { connection: redis, prefix: PREFIX, skipVersionCheck: true });
  return queue.on('error', () => undefined); // the connection itself tells, once for all queues
}

async function closeQueue(redis: Redis, queue: Queue): Promise<void> {
  const counts = await queue.getJobCounts();
  if (Object.values(counts).every((count) => count === 0)) {
    await redis.zrem(QUEUES_KEY, queue.name);
    await queue.obliterate();
  }
  await queue.close();
}

function newJob(trial: Trial, { data, files }: PackedData): TrialJob {
  const { model } = trial;
  return { trial, model: existsSync(model) ? resolve(model) : model, data, files };
}

/** How long trials may wait without a word. */
const PATIENCE_MS = 5_000;

/**
 * Finds out why trials wait that no worker takes. Each answer is given once, and again when it has changed.
 * @returns what to say of the queues that are idle, each with one of its trials.
 */
function idleReasons(redis: Redis, shown: string): (idle: ReadonlyMap<string, Trial>) => Promise<string[]> {
  const since = new Map<string, number>();
  let said = new Set<string>();
  return async (idle) => {
    const now = performance.now();
    for (const name of since.keys()) if (!idle.has(name)) since.delete(name);
    for (const name of idle.keys()) if (!since.has(name)) since.set(name, now);
    const long = [...idle].filter(([name]) => now - (since.get(name) ?? now) >= PATIENCE_MS);
    if (long.length === 0) return [];
    const reasons = reasonsOf(long, await presentWorkers(redis), shown);
    const news = reasons.filter((reason) => !said.has(reason));
    said = new Set(reasons);
    return news;
  };
}

function reasonsOf(idle: readonly (readonly [string, Trial])[], workers: readonly Presence[], shown: string): string[] {
  if (workers.length === 0) return [`no worker is at ${shown}; start one: ${commandName} worker --queue ${shown}`];
  return idle.flatMap(([name, { arm, task, model }]) => {
    const refusals = workers.map(({ refused, name: worker }) => ({ reason: refused[name], worker }));
    const [first] = refusals;
    if (first?.reason === undefined || refusals.some(({ reason }) => reason === undefined)) return [];
    return [`no worker can run ${arm} on ${task} with ${model}: ${first.reason} (${first.worker})`];
  });
}
