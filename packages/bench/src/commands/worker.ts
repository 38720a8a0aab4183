import { mkdir } from 'node:fs/promises';
import { availableParallelism, homedir, hostname } from 'node:os';
import { join, resolve } from 'node:path';
import type { Command } from 'commander';
import { diskStorage } from '@peftjs/core';
import { CheckpointError, ConfigError } from '@peftjs/core/method';
import { commandName, count, INTERRUPTED, untilSignal, withExample } from '@peftjs/cli';
import { assertInstalled, parseAddress } from '../run/queue/contract.js';
import { queueOption } from './run.js';

/** The flags of `peft-bench worker`. */
interface WorkerFlags {
  readonly queue: string;
  readonly workers: number;
  readonly scratch: string;
  readonly name: string;
}

/** `peft-bench worker`: runs trials that others queue. */
export function addWorkerCommand(program: Command): void {
  withExample(program.command('worker'), 'worker --queue redis://localhost:6379')
    .description(`run the trials of every \`${commandName} run --queue\` on the same Redis, until Ctrl-C`)
    .addOption(queueOption('address of the Redis: redis://host:port').makeOptionMandatory())
    .option('--workers <n>', 'trials at a time, one process each', count, availableParallelism())
    .option(
      '--scratch <folder>',
      'folder for checkpoints and data, shared by the workers of a machine',
      scratchFolder(),
    )
    .option('--name <name>', 'name of this worker in messages', `${hostname()}-${process.pid}`)
    .action(async (flags: WorkerFlags) => {
      process.exitCode = await untilSignal((signal) => work(flags, signal));
    });
}

/** Runs trials until a signal arrives. @returns the exit code. @throws ConfigError if there is no usable Redis. */
async function work({ queue, workers, name, ...flags }: WorkerFlags, signal: AbortSignal): Promise<number> {
  if (!/^[\w.-]{1,100}$/.test(name)) {
    throw new ConfigError(`--name is '${name}'; expected letters, digits, '.', '_' and '-'`, 'name');
  }
  const address = parseAddress(queue);
  assertInstalled();
  const scratch = resolve(flags.scratch);
  const say = (line: string): void => void process.stderr.write(`${name}: ${line}\n`);
  const [{ connectRedis }, { serve }] = await Promise.all([
    import('../run/queue/redis.js'),
    import('../run/queue/serve.js'),
  ]);
  const redis = await connectRedis(address, say);
  await claimScratch(scratch);
  say(`connected to ${address.shown}; runs ${workers} trials at a time`);
  await serve(redis, { name, workers, scratch, say, signal });
  redis.disconnect();
  return INTERRUPTED;
}

/** The default scratch folder, in the user's cache. */
function scratchFolder(): string {
  return join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'peft-bench');
}

/** Creates the scratch folder. @throws CheckpointError if nothing can be written there. */
async function claimScratch(folder: string): Promise<void> {
  try {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    await diskStorage().write(join(folder, '.writable'), new Uint8Array());
  } catch (cause) {
    throw new CheckpointError(`--scratch ${folder} cannot be written: ${(cause as Error).message}`, folder, cause);
  }
}
