import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { ADAPTER_CONFIG, ConfigError } from '@peftjs/core';

/** @throws ConfigError if results cannot go to `out` because it is a file or holds an adapter. */
export function assertForResults(out: string): void {
  if (existsSync(out) && !statSync(out).isDirectory()) {
    throw new ConfigError(`--out ${out} is a file; name a folder for the results`, 'out');
  }
  if (!existsSync(join(out, ADAPTER_CONFIG))) return;
  throw new ConfigError(`--out ${out} holds an adapter; name another folder for the results`, 'out');
}

/** Says that an adapter will be replaced. @throws ConfigError where an adapter would get among the results of a run. */
export function announceReplacement(out: string): void {
  if (existsSync(join(out, 'results'))) {
    throw new ConfigError(`--out ${out} holds the results of a run; name another folder for the adapter`, 'out');
  }
  if (!existsSync(join(out, ADAPTER_CONFIG))) return;
  process.stderr.write(`peft-bench: ${out} holds an adapter, which the new one will replace; Ctrl-C keeps it\n`);
}
