import type { Redis } from 'ioredis';
import { PREFIX } from './contract.js';

const NAMES_KEY = `${PREFIX}:workers`;
/** A worker that has not been heard of for so long is not there. */
const PRESENT_SECONDS = 10;

/** What a worker lets others know. */
export interface Presence {
  readonly name: string;
  /** Why it leaves trials to others, by queue. */
  readonly refused: Readonly<Record<string, string>>;
}

/** Says that a worker is there; to be said again every few seconds. */
export async function announce(redis: Redis, presence: Presence): Promise<void> {
  await redis
    .multi()
    .sadd(NAMES_KEY, presence.name)
    .set(keyOf(presence.name), JSON.stringify(presence), 'EX', PRESENT_SECONDS)
    .exec();
}

/** Says that a worker is gone. */
export async function leave(redis: Redis, name: string): Promise<void> {
  await redis.multi().srem(NAMES_KEY, name).del(keyOf(name)).exec();
}

/** The workers that are there. */
export async function presentWorkers(redis: Redis): Promise<Presence[]> {
  const names = await redis.smembers(NAMES_KEY);
  if (names.length === 0) return [];
  const values = await redis.mget(names.map(keyOf));
  const gone = names.filter((_, index) => values[index] === null);
  if (gone.length > 0) await redis.srem(NAMES_KEY, gone);
  return values.flatMap((value) => (value === null ? [] : [JSON.parse(value) as Presence]));
}

function keyOf(name: string): string {
  return `${PREFIX}:worker:${name}`;
}
