import { availableParallelism } from 'node:os';
import { basename, resolve } from 'node:path';
import { InvalidArgumentError, Option, type Command } from 'commander';
import { ConfigError, didYouMean, warnOnce } from '@peftjs/core/method';
import { taskKinds, type DocumentEnd, type TaskKind } from '@peftjs/tasks';
import { engineFromFlags, isOnDevice, type EnginePlan } from '../registry/executors.js';
import { offeredMethods } from '../registry/methods.js';
import {
  areLanguageTasks,
  columnFlags,
  publishedTasksIn,
  taskName,
  type DataSource,
  type Reading,
} from '../registry/tasks.js';
import { presetNamed, presets } from '../study/presets.js';
import {
  composeStudy,
  languageStudy,
  methodsOver,
  readStudyFile,
  type ComposedStudy,
  type Study,
  type StudyInput,
  type StudyProtocol,
} from '../study/study.js';

/** Flags that say what to train on what, shared by `run` and `train`. */
export interface StudyFlags {
  readonly preset: string;
  readonly full?: boolean;
  readonly config?: string;
  readonly model?: string;
  readonly task?: string;
  readonly method?: string | undefined;
  readonly budget?: string;
  readonly data?: string;
  readonly split?: string;
  readonly train?: string;
  readonly dev?: string;
  readonly documentEnd?: string;
  readonly kind?: string;
  readonly textColumn?: string;
  readonly pairColumn?: string;
  readonly labelColumn?: string;
  readonly labelSeparator?: string;
  readonly scoreScale?: number;
  readonly epochs?: number;
  readonly batchSize?: number;
  readonly maxTokens?: number;
  readonly learningRate?: number;
  readonly rows?: number;
  readonly engine: string;
  readonly backend: string;
  readonly dtype?: string;
}

/** Adds the shared flags to a command. */
export function withStudyFlags(command: Command): Command {
  return command
    .addHelpText('after', () => `\nPresets:\n${presetLines().join('\n')}`)
    .option('--preset <name>', 'a study that comes along, see below', 'quick')
    .option('--full', 'the preset in its full size, where it has one')
    .option('--config <file>', 'a study as JSON, laid over the preset')
    .option('--model <name>', 'a folder, an npm package or a hub id, organisation/name, with a pretrained model')
    .option('--task <names>', 'tasks, separated by commas: embedded ones, or those of --data')
    .option('--method <names>', 'methods, or arms of the study, separated by commas')
    .option(
      '--budget <budgets>',
      'stored parameters: 60000, 0.8% of the base or r=4, separated by commas; auto for a method that chooses',
    )
    .option(
      '--data <folder>',
      'a folder with GLUE tasks or trec as published, with train and dev files, or one such folder for each task',
    )
    .addOption(
      choice('--split <name>', "half-dev: the SoRA paper's halves of a published task", ['official', 'half-dev']),
    )
    .option(
      '--train <file>',
      'your training file: TSV, CSV or JSONL with columns text (or text_a, text_b) and label, with anchor and positive, or ' +
        'with tokens and ner_tags; CoNLL; for a language model .txt, or JSONL with text, with prompt and completion, or with messages',
    )
    .option('--dev <file>', 'the file that results are reported on: a tenth of the training rows without it')
    .addOption(choice('--kind <name>', 'what the rows are, where their columns do not say it', taskKinds))
    .option('--text-column <name>', 'the column of the text, or of the first of two: text, text_a')
    .option('--pair-column <name>', 'the column of the second text: text_b')
    .option('--label-column <name>', 'the column of the label, the labels, the tags or the score: label')
    .option('--label-separator <text>', 'what stands between several labels of a cell, e.g. "|"')
    .option('--score-scale <number>', 'what the scores of pairs are divided by, e.g. 5: 1', amount)
    .addOption(
      choice('--document-end <what>', 'what ends a document of a .txt file: file (the default)', DOCUMENT_ENDS),
    )
    .option('--epochs <n>', 'passes over the training rows', count)
    .option('--batch-size <n>', 'rows in a batch', count)
    .option(
      '--max-tokens <n>',
      'tokens of a row, at most: what 99 % of your training rows need, up to 512, or what the preset says',
      count,
    )
    .option(
      '--learning-rate <rate>',
      'peak learning rate; default what the preset says, and for your own data what suits each method',
      amount,
    )
    .option('--rows <n>', 'train on a seeded slice of the rows', count)
    .addOption(choice('--engine <name>', 'what runs the step', ['compiled', 'eager']).default('compiled'))
    .option(
      '--backend <name>',
      'where the step runs: cpu, webgpu or cuda (compiled); tensorflow, wasm or cpu (eager)',
      'auto',
    )
    .addOption(
      choice('--dtype <name>', 'frozen weights as float32, or in 8 bits; default what the preset says', ['fp32', 'q8']),
    );
}

/** Which trials a run has, and where their results go. */
export interface RunFlags extends StudyFlags {
  readonly seeds?: number;
  readonly out: string;
}

/** Adds the flags that say what a run is, wherever it runs. */
export function withRunFlags(command: Command): Command {
  return withStudyFlags(command)
    .option('--seeds <n>', 'number of seeds: 1, 2, .. n', count)
    .requiredOption('--out <folder>', 'where results and the report go');
}

function presetLines(): string[] {
  const all = presets();
  const width = Math.max(...all.map(({ name }) => name.length));
  return all.map(({ name, about }) => `  ${name.padEnd(width)}  ${about}`);
}

const DOCUMENT_ENDS = ['file', 'paragraph', 'line'] satisfies DocumentEnd[];

/** Lays preset, file and flags over one another. @throws ConfigError for flags that contradict each other. */
export async function studyFromFlags(flags: StudyFlags, above: StudyInput = {}): Promise<ComposedStudy> {
  const data = dataSource(flags);
  const preset = presetLayers(flags, data);
  const file = flags.config === undefined ? {} : await readStudyFile(flags.config);
  const method = await spelledMethods(flags.method, [...preset, file]);
  const { study: named, needsData, dtype } = presetNamed(flags.preset);
  const usual = needsData ? (named.tasks ?? []) : [];
  const tasks = list('task', flags.task) ?? (await tasksOf(data, file.tasks, usual));
  const over = [file, { ...flagInput({ ...flags, method }), ...optional('tasks', tasks) }, above];
  const labelled = composeStudy([...preset, ...over]);
  const isLanguage = await areLanguageTasks(labelled.tasks, data);
  const study = isLanguage ? composeStudy([...preset, languageStudy, ...over]) : labelled;
  const engine = engineFromFlags({ dtype, ...flags });
  return { study: withoutOwn(study, flags), data, engine };
}

/** Names of `--method` as the layers below call their arms, or packages their methods: case does not count. */
async function spelledMethods(names: string | undefined, below: readonly StudyInput[]): Promise<string | undefined> {
  if (names === undefined) return undefined;
  const arms = below.flatMap(({ methods }) => Object.keys(methodsOver({}, methods)));
  const known = [...arms, ...(await offeredMethods()).map(({ name }) => name)];
  const spelled = (name: string): string =>
    known.includes(name) ? name : (known.find((each) => each.toLowerCase() === name.toLowerCase()) ?? name);
  return names
    .split(',')
    .map((name) => spelled(name.trim()))
    .join(',');
}

/** Budgets and a learning rate on the command line are those of every arm; one that takes no budget still has none. */
function withoutOwn(study: Study, { budget, learningRate }: StudyFlags): Study {
  const arms = Object.entries(study.methods).map(([arm, settings]) => {
    const budgets = budget === undefined || settings.budgets?.length === 0 ? settings.budgets : null;
    return [arm, { ...settings, budgets, ...(learningRate !== undefined && { learningRate: null }) }] as const;
  });
  return { ...study, methods: Object.fromEntries(arms), ...(budget !== undefined && { claims: [] }) }; // claims are of budgets that are not run
}

/** Learning rates that a preset has for the embedded tasks are not for other data, which are trained at each method's own. */
function withoutRates(study: StudyInput): StudyInput {
  const arms = Object.entries(methodsOver({}, study.methods));
  const methods = Object.fromEntries(
    arms.map(([arm, settings]) => [arm, { ...(settings as object), learningRate: null }]),
  );
  return {
    ...study,
    ...(study.methods && { methods }),
    protocol: { ...study.protocol, learningRate: null },
  };
}

/** The user's own data count whole, whatever a preset takes of the rows that come along, and of their tokens. */
const WHOLE: StudyInput = { protocol: { rows: null, devRows: null, maxTokens: null, selectionRows: null } };

/** @throws ConfigError for a preset that there is not, or not in a full size, or not without data. */
function presetLayers({ preset: name, full: wantsFull = false }: StudyFlags, data: DataSource): StudyInput[] {
  const { study, full, needsData } = presetNamed(name);
  if (needsData && data.kind === 'embedded') {
    throw new ConfigError(`--preset ${name} compares on data of yours; name the folder by --data`, 'data');
  }
  const layers = full && wantsFull ? [study, full] : [study];
  if (full !== null || !wantsFull) {
    return needsData || data.kind === 'embedded' ? layers : [...layers.map(withoutRates), WHOLE];
  }
  const sized = presets().filter((preset) => preset.full);
  throw new ConfigError(
    `--full: the preset '${name}' has one size only; expected ${sized.map((preset) => preset.name).join(', ')}`,
    'full',
  );
}

function flagInput(flags: StudyFlags): StudyInput {
  const { epochs, batchSize, maxTokens, learningRate, rows, split } = flags;
  return {
    ...(flags.model === undefined ? {} : { model: flags.model }),
    ...optional('methods', list('method', flags.method)),
    ...optional('budgets', list('budget', flags.budget)),
    protocol: {
      ...optional('epochs', epochs),
      ...optional('batchSize', batchSize),
      ...optional('maxTokens', maxTokens),
      ...optional('learningRate', learningRate),
      ...optional('rows', rows),
      ...optional('split', split as StudyProtocol['split'] | undefined),
    },
  };
}

/**
 * The tasks that data of the user's are, where no flag names them. In a folder: those that a study file names (undefined leaves them),
 * the published ones that the preset is about, every published one, or the folder itself.
 */
async function tasksOf(
  data: DataSource,
  named: readonly string[] | undefined,
  usual: readonly string[],
): Promise<string[] | undefined> {
  if (data.kind === 'embedded' || (data.kind === 'folder' && named)) return undefined;
  if (data.kind === 'files') return [taskName(data.train)];
  const published = await publishedTasksIn(data.folder);
  const meant = usual.filter((task) => published.includes(task));
  if (meant.length > 0) return meant;
  return published.length > 0 ? published : [basename(resolve(data.folder))];
}

function dataSource(flags: StudyFlags): DataSource {
  const { data, train, dev, task } = flags;
  const reading = readingOf(flags);
  if (train !== undefined) {
    if (data !== undefined || task !== undefined) {
      throw new ConfigError(
        `--train is a task of its own; leave out --${data === undefined ? 'task' : 'data'}`,
        'train',
      );
    }
    return { kind: 'files', train, ...optional('dev', dev), ...reading };
  }
  if (data !== undefined) return { kind: 'folder', folder: data, ...reading };
  if (reading.documentEnd !== undefined) {
    throw new ConfigError(
      '--document-end cuts your own .txt files; name them by --train and --dev, or --data',
      'train',
    );
  }
  if (reading.columns === undefined) return { kind: 'embedded' };
  throw new ConfigError(
    `${columnFlags(reading.columns).join(', ')}: columns are of your own files; name them by --train, or --data`,
    'train',
  );
}

function readingOf(flags: StudyFlags): Reading {
  const { kind, textColumn, pairColumn, labelColumn, labelSeparator, scoreScale } = flags;
  const columns = {
    ...optional('kind', kind as TaskKind | undefined),
    ...optional('textColumn', textColumn),
    ...optional('pairColumn', pairColumn),
    ...optional('labelColumn', labelColumn),
    ...optional('labelSeparator', labelSeparator),
    ...optional('scoreScale', scoreScale),
  };
  return {
    ...optional('documentEnd', flags.documentEnd as DocumentEnd | undefined),
    ...(Object.keys(columns).length > 0 && { columns }),
  };
}

/** The items of a flag that is a list. @throws ConfigError for an empty or repeated one. */
function list(flag: string, text: string | undefined): string[] | undefined {
  if (text === undefined) return undefined;
  const items = text.split(',').map((item) => item.trim());
  const repeated = items.find((item, index) => items.indexOf(item) !== index);
  if (items.includes('') || repeated !== undefined) {
    const problem = repeated === undefined || repeated === '' ? 'an empty item' : `'${repeated}' twice`;
    throw new ConfigError(`--${flag} '${text}' has ${problem}`, flag);
  }
  return items;
}

/** Reads a count from a flag. @throws InvalidArgumentError for anything but a positive integer. */
export function count(text: string): number {
  if (/^[1-9]\d{0,8}$/.test(text)) return Number(text);
  throw new InvalidArgumentError('Expected a positive integer.');
}

/** Reads a count that may be zero from a flag. @throws InvalidArgumentError for anything else. */
export function countFromZero(text: string): number {
  return text === '0' ? 0 : count(text);
}

/** Reads a positive number from a flag. @throws InvalidArgumentError for anything else. */
export function amount(text: string): number {
  const value = Number(text);
  if (text.trim() !== '' && Number.isFinite(value) && value > 0) return value;
  throw new InvalidArgumentError('Expected a positive number.');
}

/** `--queue`, or the variable that keeps a password out of the list of processes. */
export function queueOption(about: string): Option {
  return new Option('--queue <url>', about).env('PEFT_BENCH_QUEUE');
}

/** One process for each core, or for the device. */
export function defaultWorkers(engine: EnginePlan): number {
  return isOnDevice(engine) ? 1 : availableParallelism();
}

function optional<K extends string, T>(key: K, value: T | undefined): { readonly [P in K]?: T } {
  return value === undefined ? {} : ({ [key]: value } as { [P in K]: T });
}

/** An option with one of a few values; another is refused with the nearest of them. */
export function choice(flags: string, about: string, names: readonly string[]): Option {
  return new Option(flags, about).choices(names).argParser((value: string) => {
    if (names.includes(value)) return value;
    throw new InvalidArgumentError(`Allowed choices are ${names.join(', ')}${didYouMean(value, names)}.`);
  });
}

/** Exit code of what Ctrl-C has stopped. */
export const INTERRUPTED = 130;

/** What the next SIGINT or SIGTERM stops. */
let current: AbortController | undefined;

/**
 * Turns Ctrl-C, or a SIGTERM, into an abort signal for `work`; the second one ends this process at once with exit code 130. The
 * handlers stay until the process ends: between the end of `work` and that moment a signal would otherwise end it with another code.
 */
export async function untilSignal<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  if (current === undefined) process.on('SIGINT', onSignal).on('SIGTERM', onSignal);
  current = new AbortController();
  return work(current.signal);
}

function onSignal(): void {
  if (current?.signal.aborted) process.exit(INTERRUPTED);
  warnOnce('stopping; Ctrl-C again ends it at once');
  current?.abort();
}
