import { warnOnce } from '@peftjs/core';

/** Exit code of what Ctrl-C has stopped. */
export const INTERRUPTED = 130;

/** What the next SIGINT or SIGTERM stops. */
let current: AbortController | undefined;

/**
 * Turns Ctrl-C, or a SIGTERM, into an abort signal for `work`; the second one ends this process at once with exit code 130. The
 * handlers stay until the process ends: between the end of `work` and that moment a signal would otherwise end it with another code.
 */
export async function untilSignal<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  if (current === undefined) process.on('SIGINT', onSignal).on('SIGTERM', onSignal);
  current = new AbortController();
  return work(current.signal);
}

function onSignal(): void {
  if (current?.signal.aborted) process.exit(INTERRUPTED);
  warnOnce('stopping; Ctrl-C again ends it at once');
  current?.abort();
}
