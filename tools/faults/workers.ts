import { kill, startWorker, type Bench } from './bench.js';
import { startRedis, type RedisOptions, type RedisServer } from './redis.js';

/** A Redis with two workers, as long as something needs them; workers that are put into the places of others end with it, too. */
export async function withWorkers<T>(
  scratch: string,
  options: RedisOptions,
  use: (redis: RedisServer, workers: Bench[]) => Promise<T>,
): Promise<T> {
  const redis = await startRedis(options);
  const workers = [startWorker(redis.url, scratch), startWorker(redis.url, scratch)];
  try {
    return await use(redis, workers);
  } finally {
    await Promise.all(workers.map(kill));
    await redis.stop();
  }
}
