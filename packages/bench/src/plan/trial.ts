import { createHash } from 'node:crypto';
import type { EnginePlan } from '../registry/executors.js';
import type { DataSource } from '../registry/tasks.js';
import type { ArmSettings, Study, StudyProtocol } from './study.js';

/** One training run of a study: everything that its numbers depend on, and nothing else. */
export interface Trial {
  readonly id: string;
  /** The name of the arm in its study, which rows of a report have. */
  readonly arm: string;
  readonly method: string;
  readonly settings: Omit<ArmSettings, 'method'>;
  readonly model: string;
  readonly task: string;
  readonly data: DataSource;
  /** The budget as typed; null for a method that takes none, and for an arm in stages. */
  readonly budget: string | null;
  readonly seed: number;
  readonly protocol: StudyProtocol;
  readonly engine: EnginePlan;
  readonly versions: Readonly<Record<string, string>>;
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
  readonly versions: Readonly<Record<string, string>>;
  /** Of each method's own package, by method. */
  readonly methodVersions: ReadonlyMap<string, Readonly<Record<string, string>>>;
  readonly fingerprints: Fingerprints;
  /** The methods that take a budget; the others run once for all budgets. */
  readonly budgeted: ReadonlySet<string>;
}

/** The trials of a study, seed by seed, so that an interrupted run has whole comparisons. */
export function planTrials(context: TrialContext): Trial[] {
  const { seeds, tasks, methods, budgets } = context.study;
  return Array.from({ length: seeds }, (_, index) => index + 1).flatMap((seed) =>
    tasks.flatMap((task) =>
      Object.entries(methods).flatMap(([arm, { method, ...settings }]) =>
        (context.budgeted.has(method) && !settings.stages ? budgets : [null]).map((budget) =>
          trialOf(context, { arm, method, settings, task, budget, seed }),
        ),
      ),
    ),
  );
}

function trialOf(
  { study: { model, protocol }, data, engine, versions, methodVersions, fingerprints }: TrialContext,
  choice: Pick<Trial, 'arm' | 'method' | 'settings' | 'task' | 'budget' | 'seed'>,
): Trial {
  return withId({
    ...choice,
    model,
    protocol,
    data,
    engine,
    versions: { ...versions, ...methodVersions.get(choice.method) },
    fingerprints: { model: fingerprints.model, data: fingerprints.data[choice.task] ?? '' },
  });
}

function withId(trial: Omit<Trial, 'id'>): Trial {
  const { data: _paths, ...content } = trial; // the content of the files counts, not where they lie
  const digest = createHash('sha256').update(canonical(content)).digest('hex');
  const prefix = [trial.arm, trial.task, trial.budget ?? 'any', `s${trial.seed}`].map(plain).join('-');
  return { id: `${prefix.slice(0, 120)}-${digest.slice(0, 12)}`, ...trial };
}

/** JSON with sorted keys: equal content gives equal text. */
function canonical(value: unknown): string {
  return JSON.stringify(value, (_, inner: unknown) =>
    inner !== null && typeof inner === 'object' && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)))
      : inner,
  );
}

function plain(text: string): string {
  return text.replace(/[^A-Za-z0-9.]+/g, '_').replace(/^[._]+/, '');
}
