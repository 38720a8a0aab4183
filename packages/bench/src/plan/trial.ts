import { createHash } from 'node:crypto';
import { canonical } from '../canonical.js';
import type { EnginePlan } from '../registry/executors.js';
import type { DataSource } from '../registry/tasks.js';
import { tunedRate, type TunedArm, type TunedRate } from './tuned-rate.js';
import { budgetsOf, type ArmSettings, type Study, type StudyProtocol } from './study.js';
import type { Versions } from './versions.js';

/** A study's protocol with the length at which the rows of one task are cut, chosen or found when the run was planned. */
export type TrialProtocol = Omit<StudyProtocol, 'maxTokens'> & { readonly maxTokens: number };

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
  { study: { model, protocol }, data, engine, versions, methodVersions, fingerprints, maxTokens }: TrialContext,
  { settings: { method, tuning: _grid, budgets: _budgets, ...settings }, judgedOn = 'dev', ...choice }: Choice,
  tuning: TunedRate | null = null,
): Trial {
  const learningRate = tuning?.chosen ?? settings.learningRate;
  return withId({
    ...choice,
    method,
    settings: { ...settings, learningRate },
    judgedOn,
    tuning,
    model,
    protocol: { ...protocol, maxTokens: maxTokens[choice.task] as number },
    data,
    engine,
    versions: { ...versions, ...methodVersions.get(method) },
    fingerprints: { model: fingerprints.model, data: fingerprints.data[choice.task] ?? '' },
  });
}

function withId(trial: Omit<Trial, 'id'>): Trial {
  // The content of the files counts, not where they lie, and the rate, not how it was found.
  const { data: _paths, tuning: _tuning, ...content } = trial;
  const digest = createHash('sha256').update(canonical(content)).digest('hex');
  const prefix = [trial.arm, trial.task, trial.budget ?? 'any', `s${trial.seed}`].map(plain).join('-');
  return { id: `${prefix.slice(0, 120)}-${digest.slice(0, 12)}`, ...trial };
}

function plain(text: string): string {
  return text.replace(/[^A-Za-z0-9.]+/g, '_').replace(/^[._]+/, '');
}
