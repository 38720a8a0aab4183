import { once } from 'node:events';
import { setTimeout as timer } from 'node:timers/promises';

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
