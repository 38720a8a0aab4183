import { CommanderError } from 'commander';
import { onWarning } from '@peftjs/core';
import { program } from './program.js';
import { failureOf } from './workers/messages.js';

/** Exit code of wrong usage or input. */
const BAD_INPUT = 2;

/** Exit code of what writes to a pipe that nobody reads any more, as of a process that SIGPIPE ends. */
const UNREAD = 141;

for (const stream of [process.stdout, process.stderr]) stream.on('error', endOf);
process.on('disconnect', () => process.exit()); // who started it and would pass on Ctrl-C is gone
process.channel?.unref();
await main(process.argv);

/** What cannot be written is said where it can: a pipe that is closed is no fault, a full disk is one. */
function endOf(error: NodeJS.ErrnoException): never {
  if (error.code === 'EPIPE') process.exit(UNREAD);
  process.stderr.write(`peft-bench: cannot write what goes to stdout: ${error.message}\n`);
  process.exit(1);
}

async function main(argv: readonly string[]): Promise<void> {
  onWarning((message) => process.stderr.write(`peft-bench: ${message}\n`));
  try {
    await program().parseAsync(argv);
  } catch (error) {
    process.exitCode = exitCodeOf(error);
  }
}

/** Says in one line what went wrong, and gives the exit code. */
function exitCodeOf(error: unknown): number {
  if (error instanceof CommanderError && error.exitCode === 0) return 0; // --help, --version
  const { code, message } = failureOf(error);
  const line = message.replace(/^error: /, '').replace(/\s*\n\s*/g, ' ');
  process.stderr.write(`peft-bench: ${line}\n`);
  if (!code.startsWith('PEFT_') && !code.startsWith('commander.') && error instanceof Error) {
    process.stderr.write(`${error.stack ?? ''}\n`);
  }
  return BAD_INPUT;
}
