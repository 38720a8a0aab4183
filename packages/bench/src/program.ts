import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Command } from 'commander';
import { addDoctorCommand } from './commands/doctor.js';
import { addExportCommand } from './commands/export.js';
import { addInspectCommand } from './commands/inspect.js';
import { askMandatoryLast } from './commands/mandatory.js';
import { addManifestCommand } from './commands/manifest.js';
import { addReportCommand } from './commands/report.js';
import { addRunCommand } from './commands/run.js';
import { addTrainCommand } from './commands/train.js';
import { addWorkerCommand } from './commands/worker.js';
import { packageRoot } from './package-root.js';

/** `peft-bench` with all of its commands; what is wrong on a command line is thrown as a CommanderError. */
export function program(): Command {
  const { version } = JSON.parse(readFileSync(join(packageRoot, 'package.json'), 'utf8')) as { version: string };
  const root = new Command('peft-bench')
    .description('Compare methods of parameter-efficient fine-tuning at equal parameter budgets.')
    .version(version, '--version')
    .exitOverride()
    .configureOutput({ outputError: () => undefined });
  const commands = [
    addRunCommand,
    addTrainCommand,
    addExportCommand,
    addInspectCommand,
    addReportCommand,
    addDoctorCommand,
    addWorkerCommand,
    addManifestCommand,
  ];
  for (const add of commands) add(root);
  for (const command of root.commands) {
    command.exitOverride().configureOutput({ outputError: () => undefined });
    askMandatoryLast(command);
  }
  return root;
}
