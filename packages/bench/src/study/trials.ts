import { createHash } from 'node:crypto';
import { adamW } from '@peftjs/core';
import { ConfigError } from '@peftjs/core/method';
import { NUMERICS, plainNamed, resolveSchedule, type Optimizer } from '@peftjs/core/runtime';
import type { EnginePlan } from '../registry/executors.js';
import { findPackage, readManifest } from '../registry/packages.js';
import type { DataSource } from '../registry/tasks.js';
import { canonical } from '../results/json.js';
import { budgetsOf, type ArmSettings, type Study, type StudyProtocol } from './study.js';

/** A study's protocol in which nothing is left to defaults. */
export type TrialProtocol = Omit<StudyProtocol, 'maxTokens' | 'learningRate'> & {
  /** The length at which the rows of the task are cut, chosen or found when the run was planned. */
  readonly maxTokens: number;
  /** Peak learning rate of the head, and of an arm that has none of its own. */
  readonly learningRate: number;
};

/** Peak learning rates where neither the study nor the method names one. */
const HEAD_RATE = 2e-3;
const METHOD_RATE = 1e-3;

/** One training run of a study: everything that its numbers depend on, and nothing else. */
export interface Trial {
  readonly id: string;
  /** The name of the arm in its study, which rows of a report have. */
  readonly arm: string;
  readonly method: string;
  readonly settings: Omit<ArmSettings, 'method' | 'tuning' | 'budgets'>;
  readonly model: string;
  readonly task: string;
  readonly data: DataSource;
  /** The budget as typed; null for a method that takes none, and for an arm in stages. */
  readonly budget: string | null;
  readonly seed: number;
  /** The rows that metrics are of. A trial that tunes never sees those that are reported. */
  readonly judgedOn: 'dev' | 'selection';
  /** How the learning rate was chosen; null where it was given. */
  readonly tuning: TunedRate | null;
  readonly protocol: TrialProtocol;
  readonly engine: EnginePlan;
  readonly versions: Versions;
  /** Content hashes of what it reads: a changed file or model makes new trials. */
  readonly fingerprints: { readonly model: string; readonly data: string };
}

/** Content hashes of what the trials of a run read. */
interface Fingerprints {
  readonly model: string;
  /** By task. */
  readonly data: Readonly<Record<string, string>>;
}

/** What is the same for every trial of a run. */
export interface TrialContext {
  readonly study: Study;
  readonly data: DataSource;
  readonly engine: EnginePlan;
  /** Of everything that computes, whatever the method. */
  readonly versions: Versions;
  /** Of each method's own package, by method. */
  readonly methodVersions: ReadonlyMap<string, Readonly<Record<string, string>>>;
  readonly fingerprints: Fingerprints;
  /** Where rows are cut, by task. */
  readonly maxTokens: Readonly<Record<string, number>>;
  /** The methods that take a budget; the others run once for all budgets. */
  readonly budgeted: ReadonlySet<string>;
  /** The methods that train the head alone, at the protocol's rate: there is nothing to tune. */
  readonly headAlone: ReadonlySet<string>;
  /** The learning rates that methods name for themselves, by method. */
  readonly defaultRates: ReadonlyMap<string, number>;
}

/**
 * The trials of a study, seed by seed, so that an interrupted run has whole comparisons; with the learning rates that tuning has
 * found, if there was any.
 */
export function planTrials(context: TrialContext, tuned: readonly TunedArm[] = []): Trial[] {
  const { seeds, tasks, methods } = context.study;
  return Array.from({ length: seeds }, (_, index) => index + 1).flatMap((seed) =>
    tasks.flatMap((task) =>
      Object.entries(methods).flatMap(([arm, settings]) =>
        (context.budgeted.has(settings.method) ? budgetsOf(settings, context.study) : [null]).map((budget) =>
          trialOf(context, { arm, settings, task, budget, seed }, tunedRate(tuned, arm, task)),
        ),
      ),
    ),
  );
}

/** What distinguishes a trial from the others of its study. */
interface Choice extends Pick<Trial, 'arm' | 'task' | 'budget' | 'seed'> {
  readonly settings: ArmSettings;
  /** Default 'dev'. */
  readonly judgedOn?: Trial['judgedOn'];
}

/** One trial of a study. */
export function trialOf(
  context: TrialContext,
  { settings: { method, tuning: _grid, budgets: _budgets, ...settings }, judgedOn = 'dev', ...choice }: Choice,
  tuning: TunedRate | null = null,
): Trial {
  const { data, engine, versions, methodVersions, fingerprints, maxTokens } = context;
  const { model, protocol } = context.study;
  const learningRate = tuning?.chosen ?? settings.learningRate ?? defaultRate(context, method);
  return withId({
    ...choice,
    method,
    settings: { ...settings, learningRate },
    judgedOn,
    tuning,
    model,
    protocol: {
      ...protocol,
      maxTokens: maxTokens[choice.task] as number,
      learningRate: protocol.learningRate ?? HEAD_RATE,
    },
    data,
    engine,
    versions: { ...versions, ...methodVersions.get(method) },
    fingerprints: { model: fingerprints.model, data: fingerprints.data[choice.task] ?? '' },
  });
}

/** The rate of an arm that has none of its own; null for the protocol's. */
function defaultRate({ study, headAlone, defaultRates }: TrialContext, method: string): number | null {
  if (study.protocol.learningRate !== null || headAlone.has(method)) return null;
  return defaultRates.get(method) ?? METHOD_RATE;
}

function withId(trial: Omit<Trial, 'id'>): Trial {
  // The content of the files counts, not where they lie, and the rate, not how it was found.
  const { data: _paths, tuning: _tuning, protocol, ...rest } = trial;
  const content = { ...rest, protocol: withoutNew(protocol) };
  // The loss is part of the protocol where it is named; else it follows from the data, whose content is hashed.
  const training = {
    optimizer: plainNamed(optimizerOf(trial.protocol)),
    schedule: plainNamed(resolveSchedule(trial.protocol.schedule)),
  };
  const digest = createHash('sha256')
    .update(canonical({ ...content, training }))
    .digest('hex');
  const prefix = [trial.arm, trial.task, trial.budget ?? 'any', `s${trial.seed}`].map(plain).join('-');
  return { id: `${prefix.slice(0, 120)}-${digest.slice(0, 12)}`, ...trial };
}

/** A protocol without what it does not use of settings that came later: trials from before have the same names. */
function withoutNew({ selectionRows, flippedLabels, ...protocol }: TrialProtocol): TrialProtocol {
  return {
    ...protocol,
    ...(selectionRows != null && { selectionRows }),
    ...(flippedLabels != null && { flippedLabels }),
  };
}

/** The optimizer that trains under a protocol. */
export function optimizerOf({ weightDecay }: Pick<StudyProtocol, 'weightDecay'>): Optimizer {
  return adamW({ weightDecay });
}

function plain(text: string): string {
  return text.replace(/[^A-Za-z0-9.]+/g, '_').replace(/^[._]+/, '');
}

/** A learning rate that was tried. */
export interface TriedRate {
  readonly learningRate: number;
  /** The mean over tasks and seeds of the primary metric on the selection rows; null where a trial failed, which is worse than any score. */
  readonly score: number | null;
  /** The standard error of its paired difference to the best rate; null for that one, and where there is nothing to tell it by. */
  readonly standardError: number | null;
  /** Why the first trial that failed did. */
  readonly error?: string;
}

/** How a learning rate was chosen. */
export interface TunedRate {
  /** From the smallest rate. */
  readonly tried: readonly TriedRate[];
  /** The rates within one standard error of the best one, itself among them: of more than one noise has decided. */
  readonly tied: readonly number[];
  /** The middle one of `tied`, of an even number the lower one of the two; null where every rate failed. */
  readonly chosen: number | null;
}

/** What tuning found for an arm. */
export interface TunedArm extends TunedRate {
  readonly arm: string;
  readonly tried: readonly (TriedRate & {
    /** What `score` is the mean of. */
    readonly scores: readonly { readonly task: string; readonly seed: number; readonly score: number }[];
  })[];
  /** The tasks it was found on, and whether it is for all of them. */
  readonly tasks: readonly string[];
  readonly forAllTasks: boolean;
  /** As typed; null for a method that takes none. */
  readonly budget: string | null;
  readonly seeds: readonly number[];
  /** Null where tasks have different ones. */
  readonly metric: string | null;
  readonly lowerIsBetter: boolean;
}

/** What was found for an arm that is to be run on a task; null where it was not tuned. */
function tunedRate(tuned: readonly TunedArm[], arm: string, task: string): TunedRate | null {
  const found = tuned.find((row) => row.arm === arm && (row.forAllTasks || row.tasks.includes(task)));
  if (!found) return null;
  const { tried, tied, chosen } = found;
  return { tried: tried.map(({ scores: _, ...rate }) => rate), tied, chosen };
}

/** What numbers depend on: `NUMERICS` of core, and the versions of Node and of packages by name. */
export interface Versions {
  readonly numerics: number;
  readonly [name: string]: string | number;
}

/** Packages whose version changes numbers. */
const NUMERIC_PACKAGES = ['@peftjs/core', '@peftjs/models', '@peftjs/tasks', '@peftjs/engine', '@tensorflow/tfjs'];
/** The package whose dependency it is: peft-bench may see another copy of it, which computes nothing. */
const ENGINE = '@peftjs/engine';
const RUNTIME = 'onnxruntime-node';

/** Versions of what computes the numbers, whatever the method. */
export async function numericVersions(): Promise<Versions> {
  const versions: Record<string, string> = { node: process.versions.node };
  for (const name of [...NUMERIC_PACKAGES, RUNTIME]) {
    const folder = name === RUNTIME ? findPackage(name, findPackage(ENGINE)) : findPackage(name);
    const manifest = folder === undefined ? undefined : await readManifest(folder);
    if (manifest) versions[name] = manifest.version;
  }
  return { numerics: NUMERICS, ...versions };
}

/** A share of a run's trials: every `of`-th, from the `index`-th on, counted from 0. */
export interface Shard {
  readonly index: number;
  readonly of: number;
}

/** Reads `2/8`, the third of eight. @throws ConfigError for anything else. */
export function parseShard(text: string): Shard {
  const [, index, of] = (/^(\d{1,6})\/(\d{1,6})$/.exec(text) ?? []).map(Number);
  if (index !== undefined && of !== undefined && index < of) return { index, of };
  throw new ConfigError(`--shard is '${text}'; expected I/N with I from 0 to N - 1, such as 0/4`, 'shard');
}

/** The trials of a share, in their order. */
export function shardOf<T>(trials: readonly T[], { index, of }: Shard): T[] {
  return trials.filter((_, position) => position % of === index);
}

/** Shares know nothing of one another, so that they cannot agree on learning rates. @throws ConfigError for a study that tunes. */
export function assertSharable({ tuning }: Study): void {
  if (!tuning) return;
  throw new ConfigError(
    'a run in shares tunes no learning rates, and this study does; set "tuning" to null in --config, or run it with --queue',
    'shard',
  );
}
