import { warnOnce } from '@peftjs/core/method';

/** The exit code after Ctrl-C. */
export const INTERRUPTED = 130;

/** Aborts the current work on the next SIGINT or SIGTERM. */
let current: AbortController | undefined;

/**
 * Runs `work` with a signal that Ctrl-C or a SIGTERM aborts; a second one ends this process at once with exit code 130.
 * The handlers stay until the process ends: without them, a signal after the end of `work` would give another exit
 * code.
 */
export async function untilSignal<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  if (current === undefined) process.on('SIGINT', onSignal).on('SIGTERM', onSignal);
  current = new AbortController();
  return work(current.signal);
}

function onSignal(): void {
  if (current?.signal.aborted) process.exit(INTERRUPTED);
  warnOnce('stopping; press Ctrl-C again to end at once');
  current?.abort();
}
