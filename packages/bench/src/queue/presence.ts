import type { Redis } from 'ioredis';
import * as v from 'valibot';
import { PREFIX } from './contract.js';

const NAMES_KEY = `${PREFIX}:workers`;
/** A worker that has not been heard of for so long is not there. */
const PRESENT_SECONDS = 10;

const text = v.pipe(v.string(), v.maxLength(4_000));
const presence = v.object({
  name: text,
  /** Why it leaves trials to others, by queue. */
  refused: v.record(text, text),
});

/** What a worker lets others know. */
export type Presence = v.InferOutput<typeof presence>;

/** Says that a worker is there; to be said again every few seconds. */
export async function announce(redis: Redis, worker: Presence): Promise<void> {
  await redis
    .multi()
    .sadd(NAMES_KEY, worker.name)
    .set(keyOf(worker.name), JSON.stringify(worker), 'EX', PRESENT_SECONDS)
    .exec();
}

/** Says that a worker is gone. */
export async function leave(redis: Redis, name: string): Promise<void> {
  await redis.multi().srem(NAMES_KEY, name).del(keyOf(name)).exec();
}

/** The workers that are there; what is no word of a worker counts as none. */
export async function presentWorkers(redis: Redis): Promise<Presence[]> {
  const names = await redis.smembers(NAMES_KEY);
  if (names.length === 0) return [];
  const values = await redis.mget(names.map(keyOf));
  const gone = names.filter((_, index) => values[index] === null);
  if (gone.length > 0) await redis.srem(NAMES_KEY, gone);
  return values.flatMap(readPresence);
}

function readPresence(value: string | null): Presence[] {
  const read = v.safeParse(v.pipe(v.string(), v.parseJson(), presence), value);
  return read.success ? [read.output] : [];
}

function keyOf(name: string): string {
  return `${PREFIX}:worker:${name}`;
}
