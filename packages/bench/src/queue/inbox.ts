import { randomUUID } from 'node:crypto';
import { Worker as QueueWorker } from 'bullmq';
import type { Redis } from 'ioredis';
import { LOCK_MS, MAX_STALLED, PREFIX, QUEUES_KEY, STALLED_MS, type TrialJob } from './contract.js';
import { takenTrial, type TakenTrial } from './taken.js';

/** What a worker cannot run today it may be able to run in a while: a folder is there, the network is back. */
const REFUSAL_MS = 5 * 60_000;

/** The trials that a worker may take, from all queues of a Redis. */
export interface Inbox {
  /** The next trial, held for this worker; undefined where none waits. */
  next(): Promise<TakenTrial | undefined>;
  /** Leaves the trials of a queue to others for a while; says so once. */
  refuse(queue: string, reason: string): void;
  /** Why trials are left to others, by queue. */
  refused(): Record<string, string>;
  close(): Promise<void>;
}

/** Opens the queues that are asked, and follows as they come and go. */
export function openInbox(redis: Redis, { name, say }: { name: string; say: (line: string) => void }): Inbox {
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
