import { basename, resolve } from 'node:path';
import { InvalidArgumentError, Option, type Command } from 'commander';
import { PeftError } from '@peftjs/core';
import { ConfigError, mapValues } from '@peftjs/core/method';
import { didYouMean, WEIGHT_DTYPES } from '@peftjs/core/model';
import { taskKinds } from '@peftjs/tasks';
import { textTable } from '../format.js';
import { commandName } from '../registry/command-name.js';
import { engineFromFlags } from '../registry/executors.js';
import { availableMethods } from '../registry/methods.js';
import {
  assertTasksIn,
  imageFolder,
  hasLanguageTasks,
  columnFlags,
  columnOptions,
  documentEnds,
  embeddedNames,
  loadTask,
  publishedName,
  publishedTasksIn,
  taskName,
  type DataSource,
  type Reading,
  type TableColumns,
} from '../registry/tasks.js';
import { presetNamed, presets, type Preset } from '../study/presets.js';
import {
  composeStudy,
  defined,
  languageStudy,
  mergeMethods,
  readStudyFile,
  type ComposedStudy,
  type Defined,
  type Study,
  type StudyInput,
  type StudyProtocol,
} from '../study/study.js';

/** The flags shared by `run` and `train`, as typed; undefined if not given. `withStudyFlags` says what each is for. */
export interface StudyFlags
  extends
    TableColumns,
    Pick<Reading, 'documentEnd'>,
    Partial<Pick<StudyProtocol, (typeof PROTOCOL_FLAGS)[number]>>,
    Readonly<Record<'preset' | 'engine' | 'backend', string>>,
    Readonly<
      Partial<Record<'config' | 'model' | 'task' | 'budget' | 'data' | 'images' | 'train' | 'dev' | 'dtype', string>>
    > {
  readonly full?: boolean;
  readonly method?: string | undefined;
}

/** The flags that set the field of the protocol with their name. */
const PROTOCOL_FLAGS = [
  'epochs',
  'batchSize',
  'maxTokens',
  'learningRate',
  'dropout',
  'gradientCheckpointing',
  'rows',
  'devRows',
  'split',
] as const;

/** The study that `run` and `train` take their settings from if none is named. */
export const DEFAULT_PRESET = 'quick';

/** The group of the flags that most trainings need. */
export const MOST_USED = 'Most used:';

/**
 * Adds the shared flags to a command in groups, those that most trainings need first, and returns it.
 * @param isOne whether the command takes one method, one budget and one task, rather than lists
 */
export function withStudyFlags(command: Command, isOne = false): Command {
  const several = (name: string): string => (isOne ? `<${name}>` : `<${name}s>`);
  const listed = (one: string, many: string): string => (isOne ? one : `${many}, separated by commas`);
  const withData = command
    .optionsGroup(MOST_USED)
    .option(
      '--train <file>',
      'your training file: TSV, CSV, JSONL or Parquet with the columns text (or text_a, text_b) and label; text_a, text_b ' +
        'and score; anchor and positive (and negative); or tokens and ner_tags; CoNLL (.conll, .bio, .iob); for a language ' +
        'model .txt, or JSONL with text; prompt and completion; messages; or prompt, chosen and rejected',
    )
    .option('--model <name>', 'pretrained model: a folder, an npm package or a hub id (organisation/name)')
    .option(
      `--method ${several('name')}`,
      listed('method, such as lora or sora, or an arm of the study', 'methods, or arms of the study'),
    )
    .option(
      `--budget ${several('budget')}`,
      `${listed('parameters to store', 'numbers of parameters to store')}: a count (60000), a share of the base model ` +
        '(0.8%), what LoRA of a rank stores (r=4), or auto for a method that chooses its size',
    )
    .option('--epochs <n>', 'passes over the training rows', count)
    .optionsGroup('Your data:')
    .option('--dev <file>', 'the file that results are reported on (default: a tenth of the training rows)')
    .option(
      '--data <folder>',
      'a folder with train and dev files, your own or those of a GLUE task or of TREC as published, or a folder of such ' +
        'folders, one for each task',
    )
    .option(
      `--task ${several('name')}`,
      `${listed('a task', 'tasks')}: built in (${embeddedNames.join(', ')}), or in --data`,
    )
    .addOption(
      choice('--split <name>', "half-dev: split a published task's dev set in half, as the SoRA paper does", [
        'official',
        'half-dev',
      ]),
    )
    .option(
      '--images <folder>',
      'your PNG and JPEG images, in a folder for each class, or in such folders within train and dev (or validation, val)',
    )
    .addOption(choice('--kind <name>', 'kind of task, if the columns do not show it', taskKinds))
    .option('--text-column <name>', 'column of the text, or of the first text of two (default: text, text_a)')
    .option('--pair-column <name>', 'column of the second text (default: text_b)')
    .option('--label-column <name>', 'column of the label, labels, tags or score (default: label)')
    .option('--label-separator <text>', 'separator of several labels in one cell, e.g. "|"')
    .option('--score-scale <number>', 'divisor of the scores of pairs, e.g. 5 (default: 1)', amount)
    .option('--skip-unlabelled', 'leave out the rows of your files that have no label')
    .addOption(choice('--document-end <what>', 'what ends a document of a .txt file (default: file)', documentEnds))
    .option(
      '--rows <n>',
      'train on a seeded sample of n rows; a tenth of them is set aside to select checkpoints, unless the study sets ' +
        'selectionRows',
      count,
    )
    .option(
      '--dev-rows <n>',
      `report on a seeded sample of n rows (default: a --dev file whole; held-out rows in proportion to --rows${isOne ? ', at most 5,000' : ''})`,
      count,
    )
    .option(
      '--max-tokens <n>',
      'most tokens of a row (default: enough for 99 % of your training rows, up to 512, or what the preset says)',
      count,
    );
  return withTrainingFlags(withData);
}

/** Adds the flags that say how to train, on what, and in which study. */
function withTrainingFlags(command: Command): Command {
  return command
    .optionsGroup('Training:')
    .option('--batch-size <n>', 'rows per batch', count)
    .option(
      '--learning-rate <rate>',
      'peak learning rate of every arm and of the head (default: what the preset says; for your own data, what suits the method)',
      amount,
    )
    .option(
      '--dropout <rate>',
      'dropout of the frozen network: config for the rates of its config.json, or a rate from 0 to below 1 (default: 0)',
      (text) => (text === 'config' ? text : rate(text)),
    )
    .option(
      '--gradient-checkpointing',
      'compute layers again in the backward pass: less memory, longer steps, the same results (default: if memory is short)',
    )
    .option('--no-gradient-checkpointing', 'never recompute layers')
    .optionsGroup('Computing:')
    .addOption(
      choice('--engine <name>', 'engine that runs the training step', ['compiled', 'eager']).default('compiled'),
    )
    .option(
      '--backend <name>',
      'device or library that runs it: cpu, webgpu or cuda (compiled); tensorflow, wasm or cpu (eager)',
      'auto',
    )
    .addOption(
      choice('--dtype <name>', 'frozen weights: float32, 8 or 4 bits (default: what the preset says)', WEIGHT_DTYPES),
    )
    .optionsGroup('Studies:')
    .option('--preset <name>', 'a built-in study, listed below', DEFAULT_PRESET)
    .option('--full', "the preset's full size, if it has one")
    .option('--config <file>', 'a study in JSON, which overrides the preset');
}

/** Lists the presets below a command's flags. */
export function listPresets(command: Command): Command {
  return command.addHelpText('after', () => {
    const lines = presets().map(({ name, about }) => [`  ${name}`, about]);
    return `\n${textTable(['Presets:', ''], lines, []).trimEnd()}`;
  });
}

/** Shows how a command is used, below its flags. */
export function withExample(command: Command, line: string): Command {
  return command.addHelpText('after', `\nExample:\n  ${commandName} ${line}`);
}

/**
 * Composes the study of preset, `--config` file, flags and `above`, each overriding the one before.
 * @throws ConfigError for flags that contradict each other.
 */
export async function studyFromFlags(flags: StudyFlags, above: StudyInput = {}): Promise<ComposedStudy> {
  const data = dataSource(flags);
  const { dtype, ...chosen } = presetNamed(flags.preset);
  const preset = presetLayers(flags, chosen, data);
  const file = flags.config === undefined ? {} : await readStudyFile(flags.config, data);
  const usual = chosen.needsData ? (chosen.study.tasks ?? []) : [];
  const named = {
    model: flags.model,
    tasks: list('task', flags.task, publishedName) ?? (await tasksOf(data, file.tasks, usual)),
    methods: list('method', flags.method, flags.method === undefined ? undefined : await spelling([...preset, file])),
    budgets: list('budget', flags.budget),
  };
  const over = [file, { ...defined(named), protocol: given(flags, PROTOCOL_FLAGS) }, above];
  const labelled = composeStudy([...preset, ...over]);
  if (data.kind === 'folder' && data.images !== true) await assertTasksIn(data.folder, labelled.tasks);
  const isLanguage = await hasLanguageTasks(labelled.tasks, data);
  const study = isLanguage ? composeStudy([...preset, languageStudy, ...over]) : labelled;
  const engine = engineFromFlags({ dtype, ...flags });
  return { study: withoutOwn(study, flags), data, engine };
}

/** How to spell a name in `--method`: as the study's arms or the installed methods do, whose case is ignored. */
async function spelling(below: readonly StudyInput[]): Promise<(name: string) => string> {
  const arms = below.flatMap(({ methods }) => Object.keys(mergeMethods({}, methods)));
  const known = [...arms, ...(await availableMethods()).map(({ name }) => name)];
  return (name) =>
    known.includes(name) ? name : (known.find((each) => each.toLowerCase() === name.toLowerCase()) ?? name);
}

/** Replaces each arm's own budgets and learning rate by those of the command line. An arm without a budget stays so. */
function withoutOwn(study: Study, { budget, learningRate }: StudyFlags): Study {
  const methods = mapValues(study.methods, (settings) => ({
    ...settings,
    budgets: budget === undefined || settings.budgets?.length === 0 ? settings.budgets : null,
    ...(learningRate !== undefined && { learningRate: null }),
  }));
  return { ...study, methods, ...(budget !== undefined && { claims: [] }) }; // claims are about budgets that are not run
}

/** Removes a preset's learning rates, which are for the embedded tasks: other data use each method's default. */
function withoutRates({ methods, protocol, ...study }: StudyInput): StudyInput {
  const unrated = { learningRate: null };
  return {
    ...study,
    ...(methods && {
      methods: mapValues(mergeMethods({}, methods), (settings) => ({ ...(settings as object), ...unrated })),
    }),
    protocol: { ...protocol, ...unrated },
  };
}

/** Uses all rows and tokens of the user's own data, for as many epochs as they need, whatever a preset says. */
const WHOLE: StudyInput = {
  protocol: { rows: null, devRows: null, maxTokens: null, epochs: null, selectionRows: null },
};

/** @throws ConfigError for a preset without a full size if `--full` is given, or one that needs data. */
function presetLayers(
  { full: wantsFull = false }: StudyFlags,
  { name, study, full, needsData }: Omit<Preset, 'dtype'>,
  data: DataSource,
): StudyInput[] {
  if (needsData && data.kind === 'embedded') {
    throw new ConfigError(`--preset ${name} needs your own data; name its folder with --data`, 'data');
  }
  if (wantsFull && !full) {
    const sized = presets().filter((preset) => preset.full);
    throw new ConfigError(
      `--full: the preset '${name}' has only one size; expected ${sized.map((preset) => preset.name).join(', ')}`,
      'full',
    );
  }
  const layers = wantsFull && full ? [study, full] : [study];
  return needsData || data.kind === 'embedded' ? layers : [...layers.map(withoutRates), WHOLE];
}

/**
 * The task names of the user's own data, where no flag gives them. For a folder: the tasks in the study file (then
 * undefined), the preset's usual tasks that the folder has, every published task in it, or the folder itself as one
 * task.
 */
async function tasksOf(
  data: DataSource,
  named: readonly string[] | undefined,
  usual: readonly string[],
): Promise<string[] | undefined> {
  if (data.kind === 'embedded' || (data.kind === 'folder' && named)) return undefined;
  if (data.kind === 'files') return [taskName(data.train)];
  if (imageFolder(data) !== undefined) return [taskName(data.folder)];
  const published = await publishedTasksIn(data.folder);
  const meant = usual.filter((task) => published.includes(task));
  if (meant.length > 0) return meant;
  return published.length > 0 ? published : [publishedName(basename(resolve(data.folder)))];
}

/** Says what is wrong with the user's training file, or how to read it; undefined if nothing is. */
export async function problemInFiles(flags: StudyFlags): Promise<string | undefined> {
  if (flags.train === undefined) return undefined;
  try {
    await loadTask(taskName(flags.train), dataSource(flags));
    return undefined;
  } catch (error) {
    if (error instanceof PeftError) return error.message;
    throw error;
  }
}

function dataSource(flags: StudyFlags): DataSource {
  const { data, train, task, images } = flags;
  const columns = given(flags, columnOptions);
  const reading: Reading = {
    ...given(flags, ['documentEnd']),
    ...(Object.keys(columns).length > 0 && { columns }),
  };
  if (images !== undefined) {
    const others = given(flags, ['data', 'train', 'dev', 'task', 'documentEnd', 'maxTokens', ...columnOptions]);
    const [odd] = columnFlags(others);
    if (odd === undefined) return { kind: 'folder', folder: images, images: true };
    throw new ConfigError(`--images names a folder of images; leave out ${odd}`, 'images');
  }
  if (train !== undefined) {
    if (data !== undefined || task !== undefined) {
      throw new ConfigError(
        `--train defines its own task; leave out --${data === undefined ? 'task' : 'data'}`,
        'train',
      );
    }
    return { kind: 'files', train, ...given(flags, ['dev']), ...reading };
  }
  if (data !== undefined) return { kind: 'folder', folder: data, ...reading };
  if (reading.documentEnd !== undefined) {
    throw new ConfigError(
      '--document-end applies to your own .txt files; name them with --train and --dev, or --data',
      'train',
    );
  }
  if (reading.columns === undefined) return { kind: 'embedded' };
  throw new ConfigError(
    `${columnFlags(reading.columns).join(', ')}: these flags apply to your own files; name them with --train or --data`,
    'train',
  );
}

/** The items of a comma-separated flag, as `spelled`. @throws ConfigError for an empty or repeated item. */
function list(flag: string, text: string | undefined, spelled = (item: string) => item): string[] | undefined {
  if (text === undefined) return undefined;
  const items = text.split(',').map((item) => spelled(item.trim()));
  const repeated = items.find((item, index) => items.indexOf(item) !== index);
  if (items.includes('') || repeated !== undefined) {
    const problem = repeated === undefined || repeated === '' ? 'an empty item' : `'${repeated}' twice`;
    throw new ConfigError(`--${flag} '${text}' has ${problem}`, flag);
  }
  return items;
}

/** Parses a positive integer flag. @throws InvalidArgumentError for anything else. */
export function count(text: string): number {
  if (/^[1-9]\d{0,8}$/.test(text)) return Number(text);
  throw new InvalidArgumentError('Expected a positive integer.');
}

/** Parses a flag to a number that `fits`. @throws InvalidArgumentError for anything else. */
export const numberFor =
  (expected: string, fits: (value: number) => boolean) =>
  (text: string): number => {
    const value = Number(text);
    if (text.trim() !== '' && fits(value)) return value;
    throw new InvalidArgumentError(`Expected ${expected}.`);
  };

/** Parses a positive number flag. @throws InvalidArgumentError for anything else. */
export const amount = numberFor('a positive number', (value) => value > 0 && value < Infinity);

const rate = numberFor('config, or a rate from 0 to below 1', (value) => value >= 0 && value < 1);

/** Those of the named flags that were given. */
function given<T extends object, K extends keyof T>(flags: T, names: readonly K[]): Defined<Pick<T, K>> {
  return defined(Object.fromEntries(names.map((name) => [name, flags[name]])) as Pick<T, K>);
}

/** An option that accepts one of `names`; any other value is refused with the nearest of them. */
export function choice(flags: string, about: string, names: readonly string[]): Option {
  return new Option(flags, about).choices(names).argParser((value: string) => {
    if (names.includes(value)) return value;
    throw new InvalidArgumentError(`Allowed choices are ${names.join(', ')}${didYouMean(value, names)}.`);
  });
}
