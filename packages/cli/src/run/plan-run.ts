import { existsSync } from 'node:fs';
import { PeftError } from '@peftjs/core';
import {
  CheckpointError,
  ConfigError,
  mapValues,
  UnsupportedError,
  warnOnce,
  type PeftMethod,
} from '@peftjs/core/method';
import { didYouMean, firstNames } from '@peftjs/core/model';
import { assertLossReads, LEARNING_RATE } from '@peftjs/core/runtime';
import { fromPretrained, type PretrainedModel } from '@peftjs/models';
import { isChatSet, isTextSet, chatML, encodeRows, chooseMaxTokens, rowLength, type DataSet } from '@peftjs/tasks';
import { formatCount } from '../format.js';
import { commandName } from '../registry/command-name.js';
import { isOnDevice, resolveEngine, weightDtype, type EnginePlan } from '../registry/executors.js';
import { lossNamed } from '../registry/losses.js';
import { everyMethod, isHeadOnly, resolveMethod, type ResolvedMethod } from '../registry/methods.js';
import { loading } from '../registry/loading.js';
import { isForLanguage, loadTask, type LoadedTask, type DataSource } from '../registry/tasks.js';
import { findNonJson } from '../results/json.js';
import { SAME_SIZE } from '../results/schema.js';
import { fitConfig, isAuto, parseBudget } from '../study/budgets.js';
import { presets } from '../study/presets.js';
import { budgetsOf, type ArmSettings, type ComposedStudy, type Study, type StudyProtocol } from '../study/study.js';
import { numericVersions, type Lengths, type PlannedTask, type TrialContext } from '../study/trials.js';
import { dataFingerprint } from './as-planned.js';
import {
  modelTaskOf,
  encodedSets,
  encodeLanguageTask,
  encoderOf,
  encodeSet,
  splitRows,
  warnOfLosses,
  type Reader,
  type SplitRows,
} from './prepare.js';
import { assertStarts } from './processes.js';

/** The share of a file that is held out to report on, of the rest. */
const HELD_OUT = 1 / 9;

/**
 * Bounds the reported rows that are held out of a training file, unless the protocol gives their number: to `most`, and
 * in proportion to a sample of training rows. Rows in a file of their own are all used.
 */
export function heldOutRows(
  { heldOut = false, dev }: Pick<LoadedTask, 'heldOut' | 'dev'>,
  { rows, selectionRows, devRows }: Pick<StudyProtocol, 'rows' | 'selectionRows' | 'devRows'>,
  most: number,
): Pick<PlannedTask, 'devRows'> {
  if (!heldOut || devRows !== null) return {};
  const inProportion = rows === null ? Infinity : Math.max(1, Math.round(HELD_OUT * (rows + (selectionRows ?? 0))));
  const bound = Math.min(most, inProportion);
  return bound < dev.rows.length ? { devRows: bound } : {};
}

/** Everything that a run's trials are planned from, after all checks that are possible beforehand. */
export interface PlannedRun {
  /** The engine, as it really runs. */
  readonly engine: EnginePlan;
  /** What the trials have in common. */
  readonly plan: TrialContext;
  /** The loaded tasks, by name. */
  readonly tasks: ReadonlyMap<string, LoadedTask>;
}

/**
 * Loads the methods, the data and the model of a study, and tries every configuration. Says on stderr that it loads the
 * model, which may take a while.
 * @param mostHeldOut the most reported rows of a task without a development file
 * @throws PeftError for the first problem found.
 */
export async function planRun(
  { study: asked, data, engine: wanted }: ComposedStudy,
  mostHeldOut = Infinity,
): Promise<PlannedRun> {
  for (const settings of Object.values(asked.methods)) triedBudgets(settings, asked).forEach(parseBudget);
  const { engine, versions } = await resolveEngine(wanted);
  if (isOnDevice(engine)) await assertStarts(engine);
  const methods = new Map<string, ResolvedMethod>();
  for (const { method } of Object.values(asked.methods)) methods.set(method, await resolveMethod(method));
  const study = withMethodDefaults(asked, data, methods);
  await assertChoosing(study, methods);
  assertTestable(study, methods);
  const tasks = new Map<string, LoadedTask>();
  for (const name of study.tasks) {
    const task = await loadTask(name, data, study.protocol.split, undefined, study.protocol);
    assertFlips(task, study.protocol);
    assertMargin(task, study, methods);
    if (study.protocol.loss !== undefined) assertLossReads(lossNamed(study.protocol.loss), task.kind, textsIn(task));
    tasks.set(name, task);
  }
  process.stderr.write(`${commandName}: loading ${study.model}\n`);
  const model = await modelFor([...tasks.values()], study.model, engine);
  tryConfigs(study, methods, model);
  const lengths: Record<string, PlannedTask> = {};
  for (const [name, task] of tasks) {
    const bound = heldOutRows(task, study.protocol, mostHeldOut);
    lengths[name] = { ...(await plannedLengths(task, model, { ...study.protocol, ...bound })), ...bound };
    sayHeldOut(task, data, bound.devRows ?? study.protocol.devRows ?? Infinity);
  }
  const namesOf = (has: (method: PeftMethod) => boolean): ReadonlySet<string> =>
    new Set([...methods].filter(([, { method }]) => has(method)).map(([name]) => name));
  const plan: TrialContext = {
    study,
    data,
    engine,
    budgeted: namesOf(({ fitBudget }) => fitBudget !== undefined),
    headOnly: namesOf(isHeadOnly),
    versions: { ...(await numericVersions()), ...versions },
    lengths,
    methodVersions: new Map([...methods].map(([name, { offer }]) => [name, { [offer.packageName]: offer.version }])),
    fingerprints: {
      model: model.fingerprint,
      data: Object.fromEntries([...tasks].map(([name, task]) => [name, dataFingerprint(task, model, study.protocol)])),
    },
  };
  return { engine, plan, tasks };
}

/** @throws ConfigError for flipped labels in a task without classes. */
function assertFlips({ name, kind }: LoadedTask, { flippedLabels }: Study['protocol']): void {
  if (flippedLabels == null || kind === 'classification') return;
  throw new ConfigError(
    `protocol.flippedLabels needs classes, but '${name}' is for ${kind}; leave it out`,
    'protocol.flippedLabels',
  );
}

/** An arm's budgets in a study, including the one to tune at. */
function triedBudgets(settings: ArmSettings, study: Study): string[] {
  const budgets = budgetsOf(settings, study).filter((budget) => budget !== null);
  const tuned = study.tuning?.budget;
  return budgets.length > 0 && tuned && tuned !== 'each' ? [...new Set([...budgets, tuned])] : budgets;
}

/**
 * Checks that arms with `auto` budgets have methods that choose their size, and do not stop early.
 * @throws ConfigError naming the methods that do.
 */
async function assertChoosing(study: Study, methods: ReadonlyMap<string, ResolvedMethod>): Promise<void> {
  const choosing = Object.values(study.methods).filter(
    (settings) => methods.get(settings.method)?.method.fitBudget && triedBudgets(settings, study).some(isAuto),
  );
  const unable = choosing.find(({ method }) => !methods.get(method)?.method.sizing);
  if (choosing.length > 0 && study.protocol.earlyStoppingPatience != null) {
    throw new ConfigError(
      '--budget auto trains in stages of fixed length, which do not stop early; leave out protocol.earlyStoppingPatience, or give budgets',
      'protocol.earlyStoppingPatience',
    );
  }
  if (!unable) return;
  const able = (await everyMethod()).filter(({ sizing }) => sizing).map(({ name }) => name);
  throw new ConfigError(
    `--budget auto: ${unable.method} does not choose its size (of the installed methods, ${able.join(', ') || 'none'} can); give it a budget`,
    'budget',
  );
}

/** @throws ConfigError for `auto` without a margin on texts, whose perplexity has no standard error over rows. */
function assertMargin({ name, kind }: LoadedTask, study: Study, methods: ReadonlyMap<string, ResolvedMethod>): void {
  if (kind !== 'causal-lm') return;
  const lacks = (text: string): boolean => {
    const budget = parseBudget(text);
    return budget.kind === 'auto' && budget.margin === null;
  };
  for (const settings of Object.values(study.methods)) {
    if (!methods.get(settings.method)?.method.fitBudget || !triedBudgets(settings, study).some(lacks)) continue;
    throw new ConfigError(
      `--budget auto: the scores of '${name}', which is for ${kind}, have no standard error to choose a size by; give a margin, such as --budget auto:0.5`,
      'budget',
    );
  }
}

/** @throws ConfigError for a claim about a budget that its arm does not have, or without a margin: no run answers it. */
function assertTestable(study: Study, methods: ReadonlyMap<string, ResolvedMethod>): void {
  for (const [index, claim] of study.claims.entries()) {
    const sides = { budget: [claim.arm, claim.budget], itsBudget: [claim.noWorseThan, claim.itsBudget] } as const;
    for (const [field, [arm, budget]] of Object.entries(sides)) {
      const settings = study.methods[arm];
      const own = settings && methods.get(settings.method)?.method.fitBudget ? budgetsOf(settings, study) : [null];
      if (own.includes(budget)) continue;
      const known = own.map((each) => JSON.stringify(each)).join(' or ');
      const has = own[0] === null ? 'has no budget: write null' : `is trained at ${known}`;
      throw new ConfigError(
        `study: 'claims.${index}.${field}' is ${JSON.stringify(budget)}; '${arm}' ${has}`,
        `claims.${index}.${field}`,
      );
    }
    if ((claim.margin ?? study.margin) !== null) continue;
    throw new ConfigError(
      `study: 'claims.${index}' has no margin; give it one, or give the study a "margin"`,
      `claims.${index}.margin`,
    );
  }
}

/**
 * Solves every arm's configuration for every budget. Says where a budget means different sizes: a rank is counted on
 * the modules that an arm's options select.
 * @throws ConfigError for the first that fails, or that a result file cannot hold.
 */
function tryConfigs(study: Study, methods: ReadonlyMap<string, ResolvedMethod>, model: PretrainedModel): void {
  const { protocol } = study;
  const sizes = new Map<string, number[]>();
  for (const settings of Object.values(study.methods)) {
    const method = methods.get(settings.method)?.method;
    if (!method) continue;
    const budgets = method.fitBudget ? triedBudgets(settings, study) : [];
    for (const budget of budgets.length > 0 ? budgets : [null]) {
      const { config, requested } = fitConfig(method, model, { budget, settings, protocol });
      assertWritable(settings.method, config);
      if (budget !== null && requested !== null) sizes.set(budget, [...(sizes.get(budget) ?? []), requested]);
    }
  }
  for (const [budget, counts] of sizes) {
    const [least, most] = [Math.min(...counts), Math.max(...counts)];
    if (most <= SAME_SIZE * least) continue;
    warnOnce(
      `--budget ${budget} means ${formatCount(least)} to ${formatCount(most)} parameters here, counted on the modules that each arm's options select; for arms of one size, give a number of parameters`,
    );
  }
}

/** @throws ConfigError naming the option that a result file cannot hold. */
function assertWritable(method: string, config: object): void {
  const option = findNonJson(config);
  if (option === undefined) return;
  throw new ConfigError(
    `--method ${method}: its option '${option}' cannot be written to a result file as JSON; expected strings, finite numbers, booleans, null, and arrays and plain objects of them`,
    option,
  );
}

/** The number of texts of a row that are embedded separately. */
function textsIn({ train }: LoadedTask): number | undefined {
  const [first] = train.rows;
  return first && 'texts' in first ? first.texts.length : undefined;
}

/** Says which rows are reported on if there is no development file. */
function sayHeldOut({ name, train, dev, heldOut, imagesIn }: LoadedTask, { kind }: DataSource, most: number): void {
  if (!heldOut) return;
  const all = train.rows.length + dev.rows.length;
  const more = dev.rows.length > most ? '; --dev-rows N for another number' : '';
  const inFolder =
    imagesIn === undefined
      ? '; to report on rows of your own, put a dev file beside the training file'
      : '; to report on images of your own, put the images into folders train and dev';
  const way = { embedded: '', files: '; to report on rows of your own, add --dev FILE', folder: inFolder }[kind];
  warnOnce(
    `${name}: no development file, so results are reported on ${Math.min(dev.rows.length, most)} of the ${all} rows, which are held out (the same ones every time)${more}${way}`,
  );
}

/**
 * Loads the model of a study.
 * @throws ConfigError for tasks that need different models, UnsupportedError for a task that the model does not
 * support.
 */
async function modelFor(tasks: readonly LoadedTask[], name: string, engine: EnginePlan): Promise<PretrainedModel> {
  const [first] = tasks as readonly [LoadedTask];
  const task = modelTaskOf(first);
  const other = tasks.find((each) => modelTaskOf(each) !== task);
  if (other) {
    throw new ConfigError(
      `'${first.name}' needs a model for ${task} and '${other.name}' one for ${modelTaskOf(other)}; run them separately`,
      'task',
    );
  }
  return fromPretrained(name, { ...loading, dtype: weightDtype(engine), task }).catch((error: unknown) => {
    if (!(error instanceof UnsupportedError)) throw withNearestModel(error, name);
    const way =
      task === 'causal-lm'
        ? `needs a language model, and ${name} is not one (${error.message}); give a decoder with --model, or files with labels`
        : `is for ${task}, which ${name} does not support (${error.message}); give another model with --model`;
    throw new UnsupportedError(`'${first.name}' ${way}`, 'model', error);
  });
}

/** Adds to the error of a model that is not found the model of a preset with nearly that name, if there is one. */
function withNearestModel(error: unknown, name: string): unknown {
  if (!(error instanceof PeftError) || existsSync(name)) return error;
  const known = presets().flatMap(({ study }) => (study.model === undefined ? [] : [study.model]));
  const hint = known.includes(name) ? '' : didYouMean(name, known);
  return hint === '' ? error : new CheckpointError(`--model ${name}${hint}: ${error.message}`, name, error);
}

/**
 * Fills in what a study leaves to its methods: each arm's learning rate, unless the protocol has one for all, and, for
 * the user's own data, the options that a method recommends for short runs. An arm that trains only the head keeps the
 * protocol's rate.
 */
export function withMethodDefaults(
  study: Study,
  { kind }: Pick<DataSource, 'kind'>,
  methods: ReadonlyMap<string, Pick<ResolvedMethod, 'method'>>,
): Study {
  const arms = mapValues(study.methods, (settings) => {
    const { method } = methods.get(settings.method) ?? {};
    if (!method) return settings;
    const hasProtocolRate = study.protocol.learningRate !== null || isHeadOnly(method);
    return {
      ...settings,
      learningRate: settings.learningRate ?? (hasProtocolRate ? null : (method.defaultLearningRate ?? LEARNING_RATE)),
      options: { ...(kind !== 'embedded' && method.shortRunOptions), ...settings.options },
    };
  });
  return { ...study, methods: arms };
}

/** The most tokens of a row by default: the memory and time of a step grow with them, whatever the model's limit. */
const MAX_BY_ITSELF = 512;
/** Tokens of a row of packed texts, which lose nothing at any length. */
const PACKED = 128;

/** Steps that a small task is trained for: with fewer, the methods that learn slowly end little above chance. */
const MIN_STEPS = 200;
const [MIN_EPOCHS, MAX_EPOCHS] = [3, 20];

/**
 * Returns the maximal row length of a task and its epochs, for every trial of a run: the protocol's, or else what the
 * training rows need. Warns once about what rows lose at that length, and about classes without training rows.
 * @throws PeftError for rows that cannot be encoded.
 */
export async function plannedLengths(task: LoadedTask, model: Reader, protocol: StudyProtocol): Promise<Lengths> {
  const { tokenizer, maxTokens: limit } = model;
  const lengthOf = (fitting: (most: number) => number): number =>
    protocol.maxTokens === null ? fitting(Math.min(MAX_BY_ITSELF, limit)) : Math.min(protocol.maxTokens, limit);
  if (isForLanguage(task)) {
    const { name, train, dev } = task;
    if (!tokenizer.chatTemplate && [train, dev].some(isChatSet))
      warnOnce(`${name}: the model has no chat template, so conversations are written as ChatML`);
    const template = tokenizer.chatTemplate?.render ?? chatML;
    const maxTokens = lengthOf((most) => {
      if (isTextSet(train)) return Math.min(PACKED, most);
      const { rows } = encodeSet({ ...train, name: `${name}/train` }, tokenizer, { maxTokens: most, template });
      return chooseMaxTokens(rows.map(rowLength), most);
    });
    warnOfLosses(name, encodeLanguageTask(task, model, { ...protocol, maxTokens }), limit);
    return { maxTokens, epochs: protocol.epochs ?? MIN_EPOCHS };
  }
  const split = await splitRows(task, protocol);
  const { rows } = split.train;
  const maxTokens = task.imagesIn === undefined ? lengthOf(fittingRows(split.train, tokenizer)) : 1;
  const encode = encoderOf(task, model, { maxTokens });
  // Images are decoded when a trial needs them: nothing of them is cut.
  if (task.imagesIn === undefined) warnOfLosses(task.name, await encodedSets(split, encode), limit);
  warnOfLostClasses(task.name, split, protocol);
  const needed = Math.ceil(MIN_STEPS / Math.ceil(rows.length / protocol.batchSize));
  return { maxTokens, epochs: protocol.epochs ?? Math.min(MAX_EPOCHS, Math.max(MIN_EPOCHS, needed)) };
}

/** Returns how many tokens rows need. */
function fittingRows(train: DataSet, tokenizer: Reader['tokenizer']): (most: number) => number {
  return (most) => chooseMaxTokens(encodeRows(train, tokenizer, { maxTokens: most }).rows.map(rowLength), most);
}

/** Warns about classes that no training row has: selection took their rows, or a sample left them out. */
function warnOfLostClasses(task: string, { train }: SplitRows, { rows }: StudyProtocol): void {
  const learnt = classesIn(train);
  const lost = train.classes.filter((_, label) => !learnt.has(label)).map((name) => JSON.stringify(name));
  if (lost.length === 0) return;
  warnOnce(
    `${task}: no rows of ${firstNames(lost)} are left to train on; add rows${rows === null ? '' : ', or raise --rows'}`,
  );
}

/** The indices of the classes, labels or tags that occur in some rows. */
function classesIn({ rows }: DataSet): Set<number> {
  return new Set(
    rows.flatMap((row) => {
      if ('label' in row) return [row.label];
      if ('labels' in row) return row.labels;
      return 'tags' in row ? row.tags : [];
    }),
  );
}
