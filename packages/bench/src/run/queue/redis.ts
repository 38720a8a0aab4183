import { once } from 'node:events';
import { setTimeout as timer } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { ConfigError, warnOnce } from '@peftjs/core/method';
import type { RedisAddress } from './contract.js';

/** The first Redis whose scripts can do what BullMQ asks of them. */
const OLDEST_REDIS = 5;
const CONNECT_MS = 5_000;
/** Longest pause between two tries to reach a Redis that went away. */
const LONGEST_PAUSE_MS = 2_000;

/** Told when the connection goes and comes back. */
export interface ConnectionEvents {
  readonly onLost: (reason: string) => void;
  readonly onBack: () => void;
}

/**
 * Connects to a Redis. Once connected it comes back by itself whenever the Redis does; what is asked meanwhile waits.
 * @throws ConfigError when there is no Redis, when it wants another password, or when it is too old.
 */
export async function connectRedis(address: RedisAddress, events: ConnectionEvents): Promise<Redis> {
  await assertUsable(address);
  const redis = new Redis(address.url, {
    lazyConnect: true, // nothing stays open before something is asked
    maxRetriesPerRequest: null,
    retryStrategy: (tries) => Math.min(100 * tries, LONGEST_PAUSE_MS),
  });
  let isLost = false;
  redis.on('error', (error: Error) => {
    if (!isLost) events.onLost(reasonOf(error));
    isLost = true;
  });
  redis.on('close', () => {
    if (!isLost && redis.status !== 'end') events.onLost('the connection was closed');
    isLost = true;
  });
  redis.on('ready', () => {
    if (isLost) events.onBack();
    isLost = false;
  });
  return redis;
}

/** One try. */
async function assertUsable({ url, shown }: RedisAddress): Promise<void> {
  const redis = new Redis(url, {
    lazyConnect: true,
    connectTimeout: CONNECT_MS,
    maxRetriesPerRequest: 0,
    retryStrategy: () => null,
  });
  let reason: string | undefined;
  redis.on('error', (error: Error) => (reason ??= reasonOf(error)));
  try {
    await redis.connect();
    await redis.ping();
    assertRecent(await redis.info('server'), shown);
    warnOfEviction(await redis.info('memory'), shown);
  } catch (cause) {
    if (cause instanceof ConfigError) throw cause;
    throw new ConfigError(`--queue ${shown} cannot be used: ${reason ?? reasonOf(cause)}`, 'queue');
  } finally {
    redis.disconnect();
  }
}

function assertRecent(info: string, shown: string): void {
  const version = /^redis_version:(.+)$/m.exec(info)?.[1]?.trim() ?? 'of no version';
  if (Number.parseInt(version, 10) >= OLDEST_REDIS) return;
  throw new ConfigError(`--queue ${shown} is Redis ${version}; expected ${OLDEST_REDIS}.0 or newer`, 'queue');
}

/** A Redis that throws keys away when memory is short forgets jobs; they are asked for again, but why let it. */
function warnOfEviction(info: string, shown: string): void {
  const policy = /^maxmemory_policy:(.+)$/m.exec(info)?.[1]?.trim();
  if (policy === undefined || policy === 'noeviction') return;
  warnOnce(`${shown} has the maxmemory-policy ${policy} and may forget trials; noeviction is the one for a queue`);
}

/** Errors of a connection to several addresses of one host have their reasons inside. */
function reasonOf(error: unknown): string {
  const { message, code, errors } = error as { message?: string; code?: string; errors?: Error[] };
  return message || errors?.[0]?.message || code || String(error);
}

/** What is asked of a Redis that is away is given up after so long, when a run or a worker ends. */
export const CLOSING_MS = 3_000;

/** Waits, or is woken by a signal. */
export async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await timer(ms, undefined, { signal }).catch(() => undefined);
}

/** Waits for work, but no longer than until a signal; what becomes of it then is nobody's concern. @throws what the work throws. */
export async function unlessAborted(signal: AbortSignal, work: Promise<unknown>): Promise<void> {
  work.catch(() => undefined); // it may fail after the signal
  await Promise.race([work, ...(signal.aborted ? [true] : [once(signal, 'abort')])]);
}

/** Waits for work, but no longer than so many milliseconds, and whether it fails or not. */
export async function within(ms: number, work: Promise<unknown>): Promise<void> {
  const over = new AbortController();
  await Promise.race([work.catch(() => undefined), pause(ms, over.signal)]);
  over.abort();
}
