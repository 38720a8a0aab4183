/** A task in a Chromium trace; its processor time in microseconds. */
interface TraceEvent {
  readonly name: string;
  readonly ph: string;
  readonly pid: number;
  readonly tid: number;
  readonly tdur?: number;
  readonly args?: { readonly name?: string };
}

/** The processor time of a page's main thread, and that of its workers, in a trace of the category 'toplevel', in ms. */
export function processorTime(trace: Buffer): { readonly main: number; readonly workers: number } {
  const { traceEvents } = JSON.parse(trace.toString()) as { readonly traceEvents: readonly TraceEvent[] };
  const names = new Map(
    traceEvents.filter(({ name }) => name === 'thread_name').map(({ pid, tid, args }) => [`${pid} ${tid}`, args?.name]),
  );
  const spentBy = (thread: string) =>
    traceEvents
      .filter(({ ph, pid, tid }) => ph === 'X' && names.get(`${pid} ${tid}`) === thread)
      .reduce((sum, { tdur = 0 }) => sum + tdur / 1000, 0);
  return { main: spentBy('CrRendererMain'), workers: spentBy('DedicatedWorker thread') };
}
