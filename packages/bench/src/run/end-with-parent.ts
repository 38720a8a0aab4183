import { Worker } from 'node:worker_threads';

/** Between two looks at the parent. */
const LOOK_MS = 500;

/**
 * Ends this process soon after its parent has ended, also in the middle of a native call, during which no event of the parent's
 * end reaches it: a thread of its own looks whose child the process is.
 */
export function endWithParent(): void {
  const look = `if (process.ppid !== ${process.ppid}) process.kill(process.pid, 'SIGKILL');`;
  const thread = new Worker(`setInterval(() => { ${look} }, ${LOOK_MS});`, { eval: true, execArgv: [], env: {} });
  thread.unref();
}
