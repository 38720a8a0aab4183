import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { Job, Queue } from 'bullmq';
import type { Redis } from 'ioredis';
import type { PeftError } from '@peftjs/core';
import { commandName } from '@peftjs/cli';
import { WORKER_DIED, type Trial, type TrialEvents, type TrialRunner } from '@peftjs/cli/trials';
import {
  JOB_OPTIONS,
  KEEP_SECONDS,
  PREFIX,
  queueOf,
  QUEUES_KEY,
  readOutcome,
  readProgress,
  readRefusal,
  type RedisAddress,
  type TrialJob,
  type TrialOutcome,
} from './contract.js';
import { packData, sendData, type PackedData } from './data.js';
import { CLOSING_MS, connectRedis, pause, waitUnlessAborted, waitAtMost } from './redis.js';

/** Milliseconds between polls of the trials. */
const TICK_MS = 1_000;
/** Milliseconds that all trials may wait before the lack of workers is reported. */
const PATIENCE_MS = 5_000;
/** The most waiting trials to poll per tick; running trials are always polled. */
const POLLED_PER_TICK = 200;

/** The state of a run whose trials are with the workers. */
interface RunState {
  /** Where to report events. */
  readonly events: TrialEvents;
  /** The trials without an outcome, by id, with the one polled longest ago first. */
  readonly pending: Map<string, Trial>;
  /** The pending trials that a worker runs, with their last reported progress. */
  readonly running: Map<string, string>;
  /** The reported reasons of workers that leave trials to others. */
  readonly refusals: Set<string>;
}

/**
 * Sends trials to the workers of a Redis, and collects their results. Redis is only a messenger: what it loses is
 * queued again, and a result counts once, when it is in the folder of the run.
 * @throws ConfigError if there is no usable Redis.
 */
export async function queueRunner(
  address: RedisAddress,
  checkpointing: Pick<TrialJob, 'checkpointEvery'> = {},
): Promise<TrialRunner> {
  let note: TrialEvents['onNote'] = () => undefined;
  const redis = await connectRedis(address, (line) => {
    note(line);
  });
  const queues = openQueues(redis, checkpointing);
  return {
    async run(trials, events, signal) {
      note = events.onNote;
      const state: RunState = {
        events,
        pending: new Map(trials.map((trial) => [trial.id, trial])),
        running: new Map(),
        refusals: new Set(),
      };
      await waitUnlessAborted(signal, pollUntilDone(queues, state, address, signal));
      if (signal.aborted) await waitAtMost(CLOSING_MS, withdraw(queues, state));
    },
    async close() {
      note = () => undefined;
      await waitAtMost(CLOSING_MS, queues.close());
      redis.disconnect();
    },
  };
}

/** Polls the trials until each has an outcome. */
async function pollUntilDone(
  queues: Queues,
  state: RunState,
  { shown }: RedisAddress,
  signal: AbortSignal,
): Promise<void> {
  let busyAt = performance.now(); // when a worker last ran a trial; Infinity once its lack is reported
  let refusal = '';
  while (state.pending.size > 0 && !signal.aborted) {
    try {
      await queues.keepOpen(state.pending.values());
      for (const trial of nextToPoll(state)) await poll(queues, trial, state);
      if (state.running.size > 0) busyAt = performance.now();
      if (performance.now() - busyAt >= PATIENCE_MS) {
        state.events.onNote(`no worker at ${shown} is free; start one with ${commandName} worker --queue ${shown}`);
        busyAt = Infinity;
      }
    } catch (error) {
      const { name, message } = error as Error;
      if (name !== 'ReplyError') throw error;
      if (message !== refusal) state.events.onNote(`${shown} refuses: ${message}; the run will retry`); // e.g. its memory is full
      refusal = message;
    }
    if (state.pending.size > 0) await pause(TICK_MS, signal);
  }
}

/** The running trials, and as many waiting ones as one tick may poll. The latter move to the end of the queue. */
function nextToPoll({ pending, running }: RunState): Trial[] {
  const [active, waiting] = [true, false].map((isRunning) =>
    [...pending.values()].filter(({ id }) => running.has(id) === isRunning),
  ) as [Trial[], Trial[]];
  const next = waiting.slice(0, POLLED_PER_TICK);
  for (const trial of next) {
    pending.delete(trial.id);
    pending.set(trial.id, trial);
  }
  return [...active, ...next];
}

/** Polls a trial: queues it, or handles its progress or outcome. */
async function poll(queues: Queues, trial: Trial, state: RunState): Promise<void> {
  const job = await jobOf(queues, trial);
  if (job instanceof SyntaxError) {
    await giveUp(queues, trial, job, state);
  } else if (!job) {
    state.running.delete(trial.id);
    await queues.add(trial);
  } else if (job.finishedOn !== undefined) {
    await settle(job, trial, state);
  } else if (job.processedOn !== undefined && (await job.isActive())) {
    follow(job, trial, state);
  } else if (state.running.delete(trial.id)) {
    const message = `${job.failedReason || 'its worker released it'}; it is waiting for a worker again`;
    state.events.onRetry(trial, { code: WORKER_DIED, message });
  } else {
    noteRefusal(job, trial, state);
  }
}

/** Reports why a worker has left a waiting trial to others, each reason once. */
function noteRefusal({ progress }: Job, { arm, task, model }: Trial, { refusals, events }: RunState): void {
  const refusal = readRefusal(progress);
  const reason = refusal && `${refusal.worker} cannot run ${arm} on ${task} with ${model}: ${refusal.refused}`;
  if (reason === undefined || refusals.has(reason)) return;
  refusals.add(reason);
  events.onNote(reason);
}

/** The job of a trial; a SyntaxError if Redis holds something there that BullMQ did not write. */
async function jobOf(queues: Queues, trial: Trial): Promise<Job<TrialJob, unknown> | SyntaxError | undefined> {
  try {
    return await Job.fromId<TrialJob, unknown>(queues.of(trial), trial.id);
  } catch (error) {
    if (error instanceof SyntaxError) return error;
    throw error;
  }
}

/** Fails a trial whose job cannot be read, and removes the job. */
async function giveUp(queues: Queues, trial: Trial, { message }: SyntaxError, state: RunState): Promise<void> {
  const error = { code: 'PEFT_DATA', message: `its job in Redis cannot be read: ${message}` };
  await record({ type: 'failed', error }, trial, state);
  await queues.of(trial).remove(trial.id);
}

/** Reports the progress of a running trial, if it has changed. */
function follow({ progress }: Job, trial: Trial, { running, events }: RunState): void {
  if (!running.has(trial.id)) events.onStart(trial);
  const latest = JSON.stringify(progress);
  const step = running.get(trial.id) === latest ? undefined : readProgress(progress);
  if (step) events.onProgress(trial, step);
  running.set(trial.id, latest);
}

/** Records the outcome of a trial once, then removes its job from Redis. */
async function settle(job: Job<TrialJob, unknown>, trial: Trial, state: RunState): Promise<void> {
  await record(outcomeOf(job, trial), trial, state);
  await job.remove().catch(() => undefined); // another run may have removed it
}

async function record(outcome: TrialOutcome, trial: Trial, { pending, running, events }: RunState): Promise<void> {
  if (!running.has(trial.id)) events.onStart(trial);
  if (outcome.type === 'done') await events.onDone(trial, outcome.result);
  else await events.onFailed(trial, outcome.error);
  pending.delete(trial.id);
  running.delete(trial.id);
}

function outcomeOf({ returnvalue, failedReason }: Job<TrialJob, unknown>, trial: Trial): TrialOutcome {
  if (returnvalue === null || returnvalue === undefined) {
    return { type: 'failed', error: { code: WORKER_DIED, message: failedReason || 'its worker disappeared' } };
  }
  try {
    return readOutcome(trial, returnvalue);
  } catch (error) {
    const { code, message } = error as PeftError;
    return { type: 'failed', error: { code, message } };
  }
}

/** Removes the jobs that no worker has started. Running ones continue, and a rerun finds their results. */
async function withdraw(queues: Queues, { pending }: RunState): Promise<void> {
  for (const trial of pending.values()) {
    const job = await jobOf(queues, trial);
    if (job instanceof SyntaxError) continue;
    if (job?.finishedOn === undefined) await job?.remove().catch(() => undefined); // a worker has it
  }
}

/** The queues of a run's trials, with the data that they need. */
interface Queues {
  /** The queue of a trial. */
  of(trial: Trial): Queue;
  /** Queues a trial. A trial that is queued already is not queued again. */
  add(trial: Trial): Promise<void>;
  /** Announces the trials' queues to workers, in the order of the trials, and keeps their data in Redis. */
  keepOpen(trials: Iterable<Trial>): Promise<void>;
  /** Closes the queues, and removes those that are empty. */
  close(): Promise<void>;
}

/** Opens the queues of one run in a Redis. */
function openQueues(redis: Redis, checkpointing: Pick<TrialJob, 'checkpointEvery'>): Queues {
  const open = new Map<string, Queue>();
  const packed = new Map<string, Promise<PackedData>>();
  const of = (trial: Trial): Queue => {
    const name = queueOf(trial);
    const queue = open.get(name) ?? openQueue(redis, name);
    open.set(name, queue);
    return queue;
  };
  return {
    of,
    async add(trial) {
      const pack = packed.get(trial.task) ?? packData(trial);
      packed.set(trial.task, pack);
      await sendData(redis, await pack);
      await of(trial).add(
        'trial',
        { ...newJob(trial, await pack), ...checkpointing },
        { ...JOB_OPTIONS, jobId: trial.id },
      );
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
  return queue.on('error', () => undefined); // the connection reports errors once for all queues
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
