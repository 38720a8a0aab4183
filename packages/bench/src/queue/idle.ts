import type { Redis } from 'ioredis';
import type { Trial } from '../plan/trial.js';
import { presentWorkers, type Presence } from './presence.js';

/** How long trials may wait without a word. */
const PATIENCE_MS = 5_000;

/**
 * Finds out why trials wait that no worker takes. Each answer is given once, and again when it has changed.
 * @returns what to say of the queues that are idle, each with one of its trials.
 */
export function idleReasons(redis: Redis, shown: string): (idle: ReadonlyMap<string, Trial>) => Promise<string[]> {
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
  if (workers.length === 0) return [`no worker is at ${shown}; start one: peft-bench worker --queue ${shown}`];
  return idle.flatMap(([name, { arm, task, model }]) => {
    const refusals = workers.map(({ refused, name: worker }) => ({ reason: refused[name], worker }));
    const [first] = refusals;
    if (first?.reason === undefined || refusals.some(({ reason }) => reason === undefined)) return [];
    return [`no worker can run ${arm} on ${task} with ${model}: ${first.reason} (${first.worker})`];
  });
}
