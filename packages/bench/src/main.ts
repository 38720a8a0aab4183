import { CommanderError } from 'commander';
import { onWarning } from '@peftjs/core';
import { program } from './program.js';
import { printable, printableLines } from './report/text.js';
import { showWarning } from './warnings.js';
import { failureOf } from './workers/messages.js';

/** Exit code of wrong usage or input. */
const BAD_INPUT = 2;

/** Runs a command line (`process.argv`), writing to this process's stdout and stderr; sets `process.exitCode`. Never throws. */
export async function main(argv: readonly string[]): Promise<void> {
  const restoreWarnings = onWarning(showWarning);
  try {
    await program().parseAsync(argv);
  } catch (error) {
    process.exitCode = exitCodeOf(error);
  } finally {
    restoreWarnings();
  }
}

/** Prints one line that says what went wrong, and returns the exit code. */
function exitCodeOf(error: unknown): number {
  if (error instanceof CommanderError && error.exitCode === 0) return 0; // --help, --version
  const { code, message } = failureOf(error);
  const line = message.replace(/^error: /, '').replace(/\s*\n\s*/g, ' ');
  process.stderr.write(`peft-bench: ${printable(line)}\n`);
  if (!code.startsWith('PEFT_') && !code.startsWith('commander.') && error instanceof Error) {
    process.stderr.write(`${printableLines(error.stack ?? '')}\n`);
  }
  return BAD_INPUT;
}
