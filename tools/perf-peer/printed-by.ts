import { spawnSync } from 'node:child_process';

/** What a command prints. @throws Error with what it said when it fails. */
export function printedBy(command: string, args: readonly string[]): string {
  // NumPy's own threads would fight torch's.
  const env = { ...process.env, OPENBLAS_NUM_THREADS: '1' };
  const run = spawnSync(command, args, { encoding: 'utf8', env, stdio: ['ignore', 'pipe', 'pipe'] });
  if (run.status === 0) return run.stdout;
  throw new Error(`${command} ${args.join(' ')} ended with ${run.signal ?? run.status}:\n${run.stderr}`);
}
