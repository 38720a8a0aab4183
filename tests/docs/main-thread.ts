/** What a trace of Chromium says of a task: times in microseconds, `tdur` on the processor, `dur` by the clock. */
interface TraceEvent {
  readonly name: string;
  readonly ph: string;
  readonly pid: number;
  readonly tid: number;
  readonly dur?: number;
  readonly tdur?: number;
  readonly args?: { readonly name?: string };
}

/**
 * The longest task of a page's main thread in a trace of the category 'toplevel', in ms of processor time: what other programs of
 * the machine take is not the page's doing. 0 where the trace has no task.
 */
export function longestTask(trace: Buffer): number {
  const { traceEvents } = JSON.parse(trace.toString()) as { readonly traceEvents: readonly TraceEvent[] };
  const mainThreads = new Set(
    traceEvents
      .filter(({ name, args }) => name === 'thread_name' && args?.name === 'CrRendererMain')
      .map(({ pid, tid }) => `${pid} ${tid}`),
  );
  return traceEvents
    .filter(({ ph, pid, tid }) => ph === 'X' && mainThreads.has(`${pid} ${tid}`))
    .reduce((longest, { tdur, dur = 0 }) => Math.max(longest, (tdur ?? dur) / 1000), 0);
}
