import { existsSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { glueName } from '@peftjs/tasks';
import { starters as projects } from 'create-peftjs';
import { studyFromFlags, type StudyFlags } from '../../packages/cli/src/commands/flags.js';
import { parseBudget } from '../../packages/cli/src/study/budgets.js';
import { program } from '../../packages/cli/src/commands/main.js';
import { availableMethods } from '../../packages/cli/src/registry/methods.js';
import { embeddedNames } from '../../packages/cli/src/registry/tasks.js';
import { filesBelow, root } from '../workspace/repository.js';
import { started, type Command } from './typed.js';

/** The context in which a command is typed. */
export interface Place {
  /** The files that the page asks its reader to write, by name. */
  readonly written: readonly string[];
  /** The files that generators have made so far. */
  readonly made: Set<string>;
}

/** Returns the fault of a page's command; undefined if it has none or starts a program that is not ours. */
export async function faultOf([name = '', ...args]: Command, place: Place): Promise<string | undefined> {
  const check = starters[name];
  const fault = await check?.(args, place);
  return fault === undefined ? undefined : `${[name, ...args].join(' ')}: ${fault}`;
}

type Check = (args: readonly string[], place: Place) => Promise<string | undefined> | string | undefined;

/** Checks by program. Other programs are not checked. */
const starters: Readonly<Record<string, Check>> = {
  node: ([file = ''], place) => missingFile(file, place),
  npm([command = '', ...args]) {
    const check = npmCommands[command];
    return check ? check(args) : `npm ${command} is not a command that pages use`;
  },
  async npx(args, place) {
    const inside = args.indexOf('-c');
    if (inside >= 0) return faultsIn(args[inside + 1] ?? '', place);
    const [name = '', ...rest] = args;
    const check = tools[name];
    return check ? check(rest, place) : `npx finds no '${name}' here`;
  },
};

async function faultsIn(script: string, place: Place): Promise<string | undefined> {
  const faults = await Promise.all((await started(script)).map((command) => faultOf(command, place)));
  return faults.find((fault) => fault !== undefined);
}

interface Manifest {
  readonly name: string;
  readonly scripts?: Readonly<Record<string, string>>;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly devDependencies?: Readonly<Record<string, string>>;
  readonly peerDependencies?: Readonly<Record<string, string>>;
  readonly generators?: string;
}

const json = (path: string): unknown => JSON.parse(readFileSync(join(root, path), 'utf8'));
const manifests = ['.', 'tests', 'tools', 'docs', 'examples']
  .map((folder) => `${folder}/package.json`)
  .concat(filesBelow('packages').filter((path) => /^packages\/[^/]+\/package\.json$/.test(path)))
  .map((path) => ({ folder: path.replace('/package.json', ''), ...(json(path) as Manifest) }));
const scripts = (json('package.json') as Manifest).scripts ?? {};

/** Our packages, their dependencies, and packages that readers install. */
const installable = new Set([
  ...manifests.flatMap(({ name, dependencies, devDependencies, peerDependencies }) => [
    name,
    ...Object.keys({ ...dependencies, ...devDependencies, ...peerDependencies }),
  ]),
  '@huggingface/transformers',
]);

const npmCommands: Readonly<Record<string, (args: readonly string[]) => string | undefined>> = {
  ci: () => undefined,
  test: () => missingScript('test'),
  run: (args) => missingScript(args.find((arg) => !arg.startsWith('-')) ?? ''),
  create: notCreated,
  install: notInstallable,
  rebuild: notInstallable,
};

function notInstallable(names: readonly string[]): string | undefined {
  const wanted = names.filter((name) => !name.startsWith('-')).map((name) => name.replace(/(?!^)@[^/]*$/, ''));
  const unknown = wanted.filter((name) => !installable.has(name));
  return unknown.length > 0 ? `nothing here depends on ${unknown.join(', ')}` : undefined;
}

/** `npm create NAME FOLDER -- --template STARTER` starts create-NAME. */
function notCreated([name = '', ...args]: readonly string[]): string | undefined {
  const template = args[args.indexOf('--template') + 1] ?? '';
  if (!installable.has(`create-${name}`)) return `there is no create-${name}`;
  return !args.includes('--template') || template in projects ? undefined : `there is no starter '${template}'`;
}

function missingScript(name: string): string | undefined {
  return name in scripts ? undefined : `package.json has no script '${name}'`;
}

/** The programs that npx can start. */
const tools: Readonly<Record<string, Check>> = {
  'peft-bench': benchFault,
  peftjs: benchFault,
  changeset: ([command = '']) => (['', 'publish', 'status'].includes(command) ? undefined : `no command '${command}'`),
  nx([command, generator = '', name = ''], { made }) {
    if (command !== 'g') return 'nx is for generators here';
    made.add(name);
    const [collection = '', kind = ''] = generator.split(':');
    const owner = manifests.find((manifest) => manifest.name === collection);
    if (owner?.generators === undefined) return `${collection} has no generators`;
    const { generators } = json(join(owner.folder, owner.generators)) as { readonly generators: object };
    return kind in generators ? undefined : `no generator '${generator}'`;
  },
  tsx: (args, place) => missingFile(args.find((arg) => /\.[cm]?[jt]s$/.test(arg)) ?? 'a program', place),
  vitest: ([, ...paths], place) => paths.map((path) => missingFile(path, place)).find((fault) => fault !== undefined),
};

function missingFile(path: string, { written, made }: Place): string | undefined {
  const isThere = existsSync(join(root, path)) || written.includes(path) || made.has(basename(path));
  return isThere ? undefined : `there is no ${path}`;
}

/** Parses a command line like `peft-bench`, without running it. */
async function benchFault(args: readonly string[], place: Place): Promise<string | undefined> {
  const bench = await program();
  let flags: Partial<StudyFlags> = {};
  for (const command of bench.commands) {
    command.action(() => {
      flags = command.opts();
    });
  }
  try {
    await bench.parseAsync(args, { from: 'user' });
    return flags.preset === undefined ? undefined : await studyFault(flags as StudyFlags, place);
  } catch (error) {
    return (error as Error).message;
  }
}

/**
 * Replaces JSONL files by tables. Only the content of a JSONL file shows whether it is for a language model, and the
 * reader's file does not exist here; a table always has labels.
 */
function withoutOwnRows({ train, dev, ...flags }: StudyFlags): StudyFlags {
  const named = (file: string): string => file.replace(/\.jsonl$/, '.tsv');
  return {
    ...flags,
    ...(train !== undefined && { train: named(train) }),
    ...(dev !== undefined && { dev: named(dev) }),
  };
}

/** The folders that tools/studies/defaults-rows.ts writes. */
const drawnTasks = new Set(['questions', 'stars', 'reviews', 'answers']);

/** Returns the unknown methods and tasks of a study. @throws PeftError for invalid flags or budgets */
async function studyFault(flags: StudyFlags, { made }: Place): Promise<string | undefined> {
  const { study, data } = await studyFromFlags(withoutOwnRows(flags));
  for (const budget of study.budgets) parseBudget(budget);
  const methods = new Set([...(await availableMethods()).map(({ name }) => name), ...made]);
  const unknown = Object.values(study.methods).flatMap(({ method }) => (methods.has(method) ? [] : [method]));
  const tasks = study.tasks.filter((task) => {
    if (data.kind === 'embedded') return !embeddedNames.includes(task);
    return data.kind === 'folder' && data.images !== true && glueName(task) === undefined && !drawnTasks.has(task);
  });
  const missing = [...unknown, ...tasks];
  return missing.length > 0 ? `there is no ${missing.join(', ')}` : undefined;
}
