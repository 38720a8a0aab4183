import { once } from 'node:events';
import { setTimeout as timer } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { ConfigError } from '@peftjs/core/method';
import type { RedisAddress } from './contract.js';

/** The oldest major version of Redis whose scripts support BullMQ. */
const OLDEST_REDIS = 5;
/** Milliseconds to wait for a connection. */
const CONNECT_MS = 5_000;
/** The longest pause between attempts to reconnect, in milliseconds. */
const LONGEST_PAUSE_MS = 2_000;

/**
 * Connects to a Redis. If the connection is lost, it reconnects automatically; commands wait meanwhile, and `say` tells
 * it, once for each loss.
 * @throws ConfigError if there is no Redis, it needs another password, or it is too old.
 */
export async function connectRedis(address: RedisAddress, say: (line: string) => void): Promise<Redis> {
  await assertUsable(address);
  const redis = new Redis(address.url, {
    lazyConnect: true, // opens no connection before the first command
    maxRetriesPerRequest: null,
    retryStrategy: (tries) => Math.min(100 * tries, LONGEST_PAUSE_MS),
  });
  let isLost = false;
  const lost = (reason: string): void => {
    if (!isLost) say(`lost the connection to ${address.shown} (${reason}); will continue once it is back`);
    isLost = true;
  };
  redis.on('error', (error: Error) => {
    lost(reasonOf(error));
  });
  redis.on('close', () => {
    if (redis.status !== 'end') lost('the connection was closed');
  });
  redis.on('ready', () => {
    if (isLost) say(`connected to ${address.shown} again`);
    isLost = false;
  });
  return redis;
}

/** Tries to connect once, and checks the version. */
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

/** The reason of a connection error. If a host has several addresses, the reasons are nested. */
function reasonOf(error: unknown): string {
  const { message, code, errors } = error as { message?: string; code?: string; errors?: Error[] };
  return message || errors?.[0]?.message || code || String(error);
}

/** Milliseconds to wait for an unreachable Redis when a run or a worker ends. */
export const CLOSING_MS = 3_000;

/** Waits for some milliseconds, or until the signal. */
export async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await timer(ms, undefined, { signal }).catch(() => undefined);
}

/**
 * Waits for work to end, or for the signal, whichever is first; then ignores the work's outcome.
 * @throws what the work throws before the signal.
 */
export async function waitUnlessAborted(signal: AbortSignal, work: Promise<unknown>): Promise<void> {
  work.catch(() => undefined); // it may fail after the signal
  await Promise.race([work, ...(signal.aborted ? [true] : [once(signal, 'abort')])]);
}

/** Waits for work to end or fail, but at most `ms` milliseconds. */
export async function waitAtMost(ms: number, work: Promise<unknown>): Promise<void> {
  const over = new AbortController();
  await Promise.race([work.catch(() => undefined), pause(ms, over.signal)]);
  over.abort();
}
