import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { Command, CommanderError } from 'commander';
import { onWarning } from '@peftjs/core';
import { ConfigError, warnOnce } from '@peftjs/core/method';
import { commandName } from '../registry/command-name.js';
import { dependencies, findPackage, packageEntry, packageRoot, readManifest } from '../registry/packages.js';
import { oneLine, printable, printableLines, quoted } from '../format.js';
import { showWarning } from '../run/progress.js';
import { remedyFor } from '../results/remedies.js';
import { failureOf, UNEXPECTED } from '../run/runner.js';
import { addDoctorCommand } from './doctor.js';
import { addExportCommand } from './export.js';
import { problemInFiles } from './flags.js';
import { addInspectCommand } from './inspect.js';
import { addPredictCommand } from './predict.js';
import { addTrainCommand } from './train.js';

/** The exit code for wrong usage or input. */
const BAD_INPUT = 2;

/** Runs a command line (`process.argv`). Writes to stdout and stderr, and sets `process.exitCode`. Never throws. */
export async function main(argv: readonly string[]): Promise<void> {
  const restoreWarnings = onWarning(showWarning);
  try {
    await (await program(argv[2])).parseAsync(argv);
  } catch (error) {
    process.exitCode = exitCodeOf(error);
  } finally {
    restoreWarnings();
  }
}

/** Prints one line that says what went wrong, with the stack of an unexpected error. @returns the exit code. */
function exitCodeOf(error: unknown): number {
  if (error instanceof CommanderError && error.exitCode === 0) return 0; // --help, --version
  if (error instanceof CommanderError && error.code === 'commander.help') return BAD_INPUT; // no command: the help is printed
  const { code, message } = failureOf(error);
  const line = oneLine(message.replace(/^error: /, ''));
  const remedy = remedyFor(error);
  process.stderr.write(`${commandName}: ${printable(line)}${remedy ? `. ${remedy}` : ''}\n`);
  const isExpected = code !== UNEXPECTED && /^(?:PEFT_|commander\.)/.test(code);
  if (!remedy && !isExpected && error instanceof Error) {
    process.stderr.write(`${printableLines(error.stack ?? '')}\n`);
  }
  return BAD_INPUT;
}

/** Adds a command to the program. */
type AddCommand = (program: Command) => void;

/** The package that compares methods. It depends on this one, not the reverse: it may not be installed. */
const BENCH = '@peftjs/bench';

/** The commands of `BENCH`, for messages where it is not installed. */
const OF_BENCH = ['run', 'report', 'worker'];

/** The commands of this package. */
const OWN: ReadonlyMap<string, AddCommand> = new Map([
  ['train', addTrainCommand],
  ['predict', addPredictCommand],
  ['export', addExportCommand],
  ['inspect', addInspectCommand],
  ['doctor', addDoctorCommand],
]);

/**
 * Builds the program with its commands and those of installed packages, which are not loaded if `asked` is one of its
 * own. Errors on the command line are thrown as CommanderError.
 * @throws ConfigError if `asked` is a command of a package that is not installed.
 */
export async function program(asked = ''): Promise<Command> {
  const { version } = JSON.parse(readFileSync(join(packageRoot, 'package.json'), 'utf8')) as { version: string };
  const added = OWN.has(asked) ? undefined : await addedCommands();
  if (OF_BENCH.includes(asked) && !added?.has(asked)) {
    throw new ConfigError(`'${asked}' is a command of ${BENCH}; to install it: npm install ${BENCH}`, 'command');
  }
  const root = new Command(commandName)
    .description('Train adapters of pretrained models, use them, and compare methods at equal parameter budgets.')
    .version(version, '--version')
    .exitOverride()
    .configureOutput({ outputError: () => undefined });
  for (const add of [...OWN.values(), ...(added?.values() ?? [])]) add(root);
  if (added?.size === 0) {
    root.addHelpText('after', `\nTo compare methods (${OF_BENCH.join(', ')}): npm install ${BENCH}`);
  }
  for (const command of root.commands) {
    const takesTexts = command.registeredArguments.at(-1)?.variadic;
    command.exitOverride(takesTexts ? refuseTexts : undefined).configureOutput({ outputError: () => undefined });
  }
  return root.hook('preSubcommand', (_, command) => {
    warnOfRepeated(command);
    checkLast(command);
  });
}

/** Throws an error of a command that takes texts: an unknown option may be one of them. */
function refuseTexts({ exitCode, code, message }: CommanderError): never {
  const isText = code === 'commander.unknownOption' && !message.includes('Did you mean');
  const hint = isText ? '; put -- before a text that begins with -' : '';
  throw new CommanderError(exitCode, code, `${message}${hint}`);
}

/** Warns of a list that is given twice: only the last counts, but a user may expect both. */
function warnOfRepeated(command: Command): void {
  for (const option of command.options.filter(({ description }) => description.includes('separated by commas'))) {
    let isGiven = false;
    command.on(`option:${option.name()}`, () => {
      if (isGiven) warnOnce(`${option.long} is given twice, and only the last counts: separate values by commas`);
      isGiven = true;
    });
  }
}

/**
 * Loads the commands that installed packages add, by name: a package declares them in its package.json, as exports of
 * its entry `./commands`.
 * @throws ConfigError if a declared export is not a function, or a command is declared twice.
 */
async function addedCommands(): Promise<ReadonlyMap<string, AddCommand>> {
  const packages = new Set([BENCH, ...(await dependencies())]);
  const added = (await Promise.all([...packages].map(commandsOf))).flat();
  const names = [...OWN.keys(), 'help', ...added.map(([name]) => name)];
  const twice = names.find((name, at) => names.indexOf(name) < at);
  if (twice === undefined) return new Map(added);
  throw new ConfigError(`the command '${twice}' is declared by more than one package; remove one of them`, 'peft');
}

async function commandsOf(packageName: string): Promise<[name: string, add: AddCommand][]> {
  const folder = findPackage(packageName);
  const declared = Object.entries((folder && (await readManifest(folder))?.peft?.commands) ?? {});
  if (folder === undefined || declared.length === 0) return [];
  const entry = packageEntry(packageName, folder, '/commands');
  const module = entry === undefined ? {} : ((await import(pathToFileURL(entry).href)) as Record<string, unknown>);
  return declared.map(([name, exportName]) => {
    const add = module[exportName];
    if (typeof add === 'function') return [name, add as AddCommand];
    throw new ConfigError(
      `${packageName} declares the command '${name}' as the export '${exportName}' of ${packageName}/commands, which is not a function`,
      'peft',
    );
  });
}

/**
 * Reports arguments that belong to nothing, then everything that a command lacks, with a problem in the user's files, each on one line. Unknown options are
 * refused before that, so `--ouput x` is reported as unknown, not as a missing `--out`. The help does not change.
 */
function checkLast(command: Command): void {
  command.usage(command.usage()).allowExcessArguments(); // the usage before the arguments become optional
  const args = command.registeredArguments.map((argument) => ({ argument, required: argument.required }));
  const options = command.options.filter(({ mandatory }) => mandatory);
  for (const { argument } of args) argument.required = false;
  for (const option of options) option.mandatory = false;
  command.hook('preAction', async (_, called) => {
    refuseExcess(called);
    const given = (option: string): boolean => called.getOptionValue(option) !== undefined;
    const missing = [
      ...args.flatMap(({ argument, required }, at) =>
        required && called.args[at] === undefined ? [`<${argument.name()}>`] : [],
      ),
      ...options.filter((option) => !given(option.attributeName())).map(({ flags }) => flags),
      ...(given('dev') && !given('train') ? ['--train <file>'] : []),
    ];
    if (missing.length === 0) return;
    const problem = await problemInFiles(called.opts());
    const also = problem === undefined ? '' : `; and ${problem}`;
    called.error(`error: missing: ${missing.join(', ')}; see ${commandName} ${called.name()} --help${also}`, {
      code: 'commander.missingMandatoryOptionValue',
    });
  });
}

/** Refuses an argument that a command does not take. In place of a file, it is often a forgotten `--train`. */
function refuseExcess(command: Command): void {
  const { registeredArguments, args } = command;
  const extra = registeredArguments.at(-1)?.variadic ? undefined : args[registeredArguments.length];
  if (extra === undefined) return;
  const takesFile = command.options.some(({ long }) => long === '--train') && existsSync(extra);
  const remedy = takesFile
    ? `to train on this file: --train ${quoted(extra)}`
    : `see ${commandName} ${command.name()} --help`;
  command.error(`error: unexpected argument '${extra}'; ${remedy}`, { code: 'commander.excessArguments' });
}
