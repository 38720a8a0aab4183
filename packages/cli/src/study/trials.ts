import { adamW } from '@peftjs/core';
import { ConfigError } from '@peftjs/core/method';
import { HEAD_LEARNING_RATE, NUMERICS, nameAndSettings, resolveSchedule, type Optimizer } from '@peftjs/core/runtime';
import type { EnginePlan } from '../registry/executors.js';
import { findPackage, readManifest } from '../registry/packages.js';
import type { DataSource } from '../registry/tasks.js';
import { canonical, sha256 } from '../results/json.js';
import type { TrialTuning } from '../results/schema.js';
import { epochsBefore } from './stages.js';
import { budgetsOf, type ArmSettings, type Study, type StudyProtocol } from './study.js';

/** How long the rows of a task are and how long it is trained, chosen or found when the run was planned. */
export interface Lengths {
  /** The length at which rows are cut, in tokens. */
  readonly maxTokens: number;
  /** Passes over the training rows. */
  readonly epochs: number;
}

/** What a run's plan decides for a task. */
export interface PlannedTask extends Lengths {
  /** The number of reported rows, if a held-out part is bounded. Default: the protocol's. */
  readonly devRows?: number;
}

/** A study's protocol in which nothing is left to defaults. */
export type TrialProtocol = Omit<StudyProtocol, keyof Lengths | 'learningRate'> &
  Lengths & {
    /** Peak learning rate of the head, and of an arm that has none of its own. */
    readonly learningRate: number;
  };

/** One training run of a study: everything that its numbers depend on, and nothing else. */
export interface Trial {
  /** The trial's name: readable, with a hash of everything that its numbers depend on. */
  readonly id: string;
  /** The arm's name in the study and in reports. */
  readonly arm: string;
  /** The method's command-line name. */
  readonly method: string;
  /** The arm's settings. */
  readonly settings: Omit<ArmSettings, 'method' | 'tuning' | 'budgets'>;
  /** The pretrained model: a folder, an npm package or a hub id. */
  readonly model: string;
  /** The task name. */
  readonly task: string;
  /** Where the data come from. */
  readonly data: DataSource;
  /** The budget as typed; null for a method without one, and for an arm in stages. */
  readonly budget: string | null;
  /** The seed of initial values and batch order. */
  readonly seed: number;
  /** The rows that the metrics are computed on. A tuning trial never sees the reported rows. */
  readonly judgedOn: 'dev' | 'selection';
  /** How the learning rate was tuned; null if it was given. */
  readonly tuning: TunedRate | null;
  /** How the trial is trained and evaluated. */
  readonly protocol: TrialProtocol;
  /** The engine that computes it. */
  readonly engine: EnginePlan;
  /** Versions that the numbers depend on. */
  readonly versions: Versions;
  /** Content hashes of the model and data: a changed file makes new trials. */
  readonly fingerprints: { readonly model: string; readonly data: string };
}

/** Everything that the trials of a run have in common. */
export interface TrialContext {
  /** The study. */
  readonly study: Study;
  /** Where the data come from. */
  readonly data: DataSource;
  /** The engine that computes the trials. */
  readonly engine: EnginePlan;
  /** Versions that the numbers of all methods depend on. */
  readonly versions: Versions;
  /** Versions of each method's own package, by method. */
  readonly methodVersions: ReadonlyMap<string, Readonly<Record<string, string>>>;
  /** Content hashes of the model, and of each task's data. */
  readonly fingerprints: { readonly model: string; readonly data: Readonly<Record<string, string>> };
  /** The lengths of rows and training, and the bounds of held-out parts, by task. */
  readonly lengths: Readonly<Record<string, PlannedTask>>;
  /** The methods that support budgets; others run once for all budgets. */
  readonly budgeted: ReadonlySet<string>;
  /** The methods that train only the head, at the protocol's rate, so there is nothing to tune. */
  readonly headOnly: ReadonlySet<string>;
}

/**
 * The trials of a study, seed by seed, so that an interrupted run has complete comparisons. `tuned` holds the learning
 * rates that tuning chose.
 */
export function planTrials(context: TrialContext, tuned: readonly TunedArm[] = []): Trial[] {
  const { seeds, tasks, methods } = context.study;
  return Array.from({ length: seeds }, (_, index) => index + 1).flatMap((seed) =>
    tasks.flatMap((task) =>
      Object.entries(methods).flatMap(([arm, settings]) =>
        (context.budgeted.has(settings.method) ? budgetsOf(settings, context.study) : [null]).map((budget) =>
          trialOf(context, { arm, settings, task, budget, seed }, tunedRate(tuned, { arm, task, budget })),
        ),
      ),
    ),
  );
}

/**
 * The arm that differences are taken against: the study's. Without one, it is the first arm with a budget; if the
 * study's is not run, the head alone.
 */
export function referenceOf(context: TrialContext): string {
  const trials = planTrials(context);
  const { reference } = context.study;
  const stated = trials.find(({ arm }) => arm === reference);
  const headOnly = reference === null ? undefined : trials.find(({ method }) => context.headOnly.has(method));
  return (stated ?? headOnly ?? trials.find(({ budget }) => budget !== null) ?? trials[0])?.arm ?? '';
}

/** What distinguishes a trial from others of its study. */
interface Choice extends Pick<Trial, 'arm' | 'task' | 'budget' | 'seed'> {
  /** The arm's settings. */
  readonly settings: ArmSettings;
  /** The rows to evaluate on. Default `dev`. */
  readonly judgedOn?: Trial['judgedOn'];
}

/** Builds one trial of a study, with a tuned learning rate if there is one. */
export function trialOf(
  context: TrialContext,
  { settings: { method, tuning: _grid, budgets: _budgets, ...settings }, judgedOn = 'dev', ...choice }: Choice,
  tuning: TunedRate | null = null,
): Trial {
  const { data, engine, versions, methodVersions, fingerprints, lengths } = context;
  const { model, protocol } = context.study;
  const learningRate = tuning?.chosen ?? settings.learningRate;
  return withId({
    ...choice,
    method,
    settings: { ...settings, learningRate },
    judgedOn,
    tuning,
    model,
    protocol: {
      ...protocol,
      ...(lengths[choice.task] as PlannedTask),
      learningRate: protocol.learningRate ?? HEAD_LEARNING_RATE,
    },
    data,
    engine,
    versions: { ...versions, ...methodVersions.get(method) },
    fingerprints: { model: fingerprints.model, data: fingerprints.data[choice.task] ?? '' },
  });
}

/** Settings that were added later: left out of ids where unused, so that trials keep their old ones. */
const NEWER = ['selectionRows', 'flippedLabels', 'dropout', 'scaling', 'earlyStoppingPatience'];

function withId(trial: Omit<Trial, 'id'>): Trial {
  // The id depends on the files' content, not on their paths, and on the learning rate, not on how it was found.
  const { data: _paths, tuning: _tuning, protocol, ...rest } = trial;
  const { gradientCheckpointing: _memory, ...stated } = protocol; // it changes no result
  const used = Object.entries(stated).filter(([name, value]) => value || !NEWER.includes(name));
  const content = { ...rest, protocol: Object.fromEntries(used) };
  // A named loss is part of the protocol; otherwise the loss follows from the data, whose content is hashed.
  const training = {
    optimizer: nameAndSettings(optimizerOf(trial.protocol)),
    schedule: nameAndSettings(resolveSchedule(trial.protocol.schedule)),
  };
  const digest = sha256(canonical({ ...content, training }));
  const arm = plain(trial.arm) || 'arm'; // an id starts with a letter or a digit
  const prefix = [arm, ...[trial.task, trial.budget ?? 'any', `s${trial.seed}`].map(plain)].join('-');
  return { id: `${prefix.slice(0, 120)}-${digest.slice(0, 12)}`, ...trial };
}

/** The optimizer of a protocol. */
export function optimizerOf({ weightDecay }: Pick<StudyProtocol, 'weightDecay'>): Optimizer {
  return adamW({ weightDecay });
}

function plain(text: string): string {
  return text.replace(/[^A-Za-z0-9.]+/g, '_').replace(/^[._]+/, '');
}

/** The epochs of a whole trial, in all its stages. */
export function epochsOf({ protocol: { epochs }, settings: { stages } }: Pick<Trial, 'protocol' | 'settings'>): number {
  return stages ? epochsBefore(stages.levels.length, stages, epochs) : epochs;
}

/** A learning rate that was tried. A failed trial ranks below any score. */
export type TriedRate = TrialTuning['tried'][number];

/** How a learning rate was chosen: the middle of the rates within one standard error of the best; of two, the lower. */
export type TunedRate = TrialTuning & Required<Pick<TrialTuning, 'tied'>>;

/** The result of tuning for an arm. */
export interface TunedArm extends TunedRate {
  /** The name of the arm. */
  readonly arm: string;
  /** All rates that were tried, from the smallest, with their scores. */
  readonly tried: (TriedRate & {
    /** The scores that `score` averages. */
    readonly scores: readonly { readonly task: string; readonly seed: number; readonly score: number }[];
  })[];
  /** The tasks that it was tuned on. */
  readonly tasks: readonly string[];
  /** Whether the chosen rate holds for all tasks of the study. */
  readonly forAllTasks: boolean;
  /** Whether it holds for all budgets of the arm. */
  readonly forAllBudgets: boolean;
  /** The budget as typed; null for a method without one. */
  readonly budget: string | null;
  /** The seeds of the tuning trials. */
  readonly seeds: readonly number[];
  /** The primary metric; null if tasks have different ones. */
  readonly metric: string | null;
  /** Whether lower values of the metric are better. */
  readonly lowerIsBetter: boolean;
}

/** The tuning result that applies to an arm on a task at a budget; null if it was not tuned. */
function tunedRate(
  tuned: readonly TunedArm[],
  { arm, task, budget }: Pick<Choice, 'arm' | 'task' | 'budget'>,
): TunedRate | null {
  const found = tuned.find(
    (row) =>
      row.arm === arm && (row.forAllTasks || row.tasks.includes(task)) && (row.forAllBudgets || row.budget === budget),
  );
  if (!found) return null;
  const { tried, tied, chosen } = found;
  return { tried: tried.map(({ scores: _, ...rate }) => rate), tied, chosen };
}

/** What numbers depend on: `NUMERICS` of core, and the versions of Node and of packages, by name. */
export interface Versions {
  /** The revision of core's numerics. */
  readonly numerics: number;
  readonly [name: string]: string | number;
}

/** Packages whose version affects numbers. */
const NUMERIC_PACKAGES = ['@peftjs/core', '@peftjs/models', '@peftjs/tasks', '@peftjs/engine'];
/**
 * The package that depends on the runtime. peft-bench may find another copy of the runtime, which is not the one that
 * computes.
 */
const ENGINE = '@peftjs/engine';
const RUNTIME = 'onnxruntime-node';
/**
 * TensorFlow.js, and its name in results: that of the package which bundles its parts, all of one version. Results had
 * it before peftjs used tfjs-core alone, and a trial's id depends on it.
 */
const TFJS = '@tensorflow/tfjs-core';
const TFJS_IN_RESULTS = '@tensorflow/tfjs';

/** The versions that the numbers of all methods depend on. */
export async function numericVersions(): Promise<Versions> {
  const versions: Record<string, string> = { node: process.versions.node };
  for (const name of [...NUMERIC_PACKAGES, TFJS, RUNTIME]) {
    const folder = name === RUNTIME ? findPackage(name, findPackage(ENGINE)) : findPackage(name);
    const manifest = folder === undefined ? undefined : await readManifest(folder);
    if (manifest) versions[name === TFJS ? TFJS_IN_RESULTS : name] = manifest.version;
  }
  return { numerics: NUMERICS, ...versions };
}

/** A share of a run's trials: every `of`-th one, starting at `index`. */
export interface Shard {
  /** The index of the share, from 0. */
  readonly index: number;
  /** The number of shares. */
  readonly of: number;
}

/** Parses e.g. `2/8`, the third of eight shares. @throws ConfigError for anything else. */
export function parseShard(text: string): Shard {
  const [, index, of] = (/^(\d{1,6})\/(\d{1,6})$/.exec(text) ?? []).map(Number);
  if (index !== undefined && of !== undefined && index < of) return { index, of };
  throw new ConfigError(`--shard is '${text}'; expected I/N with I from 0 to N - 1, for example 0/4`, 'shard');
}

/** The trials of a share, in order. */
export function shardOf<T>(trials: readonly T[], { index, of }: Shard): T[] {
  return trials.filter((_, position) => position % of === index);
}

/**
 * Shares do not see each other's results, so they cannot agree on tuned learning rates.
 * @throws ConfigError for a study that tunes.
 */
export function assertSharable({ tuning }: Study): void {
  if (!tuning) return;
  throw new ConfigError(
    'a run in shares cannot tune learning rates, but this study does; set "tuning" to null in --config, or use --queue',
    'shard',
  );
}
