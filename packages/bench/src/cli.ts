import { Command, CommanderError } from 'commander';
import { onWarning } from '@peftjs/core';
import { addDoctorCommand } from './commands/doctor.js';
import { addExportCommand } from './commands/export.js';
import { addInspectCommand } from './commands/inspect.js';
import { addReportCommand } from './commands/report.js';
import { addRunCommand } from './commands/run.js';
import { addTrainCommand } from './commands/train.js';
import { failureOf } from './workers/messages.js';

/** Exit code of wrong usage or input. */
const BAD_INPUT = 2;

await main(process.argv);

async function main(argv: readonly string[]): Promise<void> {
  onWarning((message) => process.stderr.write(`peft-bench: ${message}\n`));
  try {
    await program().parseAsync(argv);
  } catch (error) {
    process.exitCode = exitCodeOf(error);
  }
}

function program(): Command {
  const root = new Command('peft-bench')
    .description('Compare methods of parameter-efficient fine-tuning at equal parameter budgets.')
    .exitOverride()
    .configureOutput({ outputError: () => undefined });
  const commands = [
    addRunCommand,
    addTrainCommand,
    addExportCommand,
    addInspectCommand,
    addReportCommand,
    addDoctorCommand,
  ];
  for (const add of commands) add(root);
  for (const command of root.commands) command.exitOverride().configureOutput({ outputError: () => undefined });
  return root;
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
