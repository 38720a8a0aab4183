import { spawnSync } from 'node:child_process';
import { PeftError } from '@peftjs/core';

/** What a command prints. @throws PeftError with what it said when it fails. */
export function printedBy(command: string, args: readonly string[]): string {
  // NumPy's own threads would fight torch's.
  const env = { ...process.env, OPENBLAS_NUM_THREADS: '1' };
  const run = spawnSync(command, args, { encoding: 'utf8', env, stdio: ['ignore', 'pipe', 'pipe'] });
  if (run.status === 0) return run.stdout;
  const how = `ended with ${run.signal ?? run.status}`;
  throw new PeftError('PEFT_PERF', `${command} ${args.join(' ')} ${how}:\n${run.stderr}`, { path: command });
}
