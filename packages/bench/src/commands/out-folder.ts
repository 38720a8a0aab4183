import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { ADAPTER_CONFIG, ConfigError } from '@peftjs/core';

/** @throws ConfigError where the results of a run would get into the folder of an adapter. */
export function assertNoAdapter(out: string): void {
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
