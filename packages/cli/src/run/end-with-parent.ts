import { Worker } from 'node:worker_threads';

/** Milliseconds between checks of the parent. */
const CHECK_MS = 500;

/**
 * Ends this process soon after its parent has ended. A separate thread checks the parent's process id, since no event
 * reaches this thread during a long native call.
 */
export function endWithParent(): void {
  const look = `if (process.ppid !== ${process.ppid}) process.kill(process.pid, 'SIGKILL');`;
  const thread = new Worker(`setInterval(() => { ${look} }, ${CHECK_MS});`, { eval: true, execArgv: [], env: {} });
  thread.unref();
}
