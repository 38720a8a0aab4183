import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { Queue } from 'bullmq';
import type { Redis } from 'ioredis';
import type { Trial } from '../plan/trial.js';
import { JOB_OPTIONS, KEEP_SECONDS, PREFIX, queueOf, QUEUES_KEY, type TrialJob } from './contract.js';
import { packData, sendData, type PackedData } from './travel.js';

/** The queues of a run's trials, and what goes to Redis with them. */
export interface Queues {
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
export function openQueues(redis: Redis, keeping: Pick<TrialJob, 'checkpointEvery'>): Queues {
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
      await of(trial).add('trial', { ...jobOf(trial, await pack), ...keeping }, { ...JOB_OPTIONS, jobId: trial.id });
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

function jobOf(trial: Trial, { data, files }: PackedData): TrialJob {
  const { model } = trial;
  return { trial, model: existsSync(model) ? resolve(model) : model, data, files };
}
