import { createHash } from 'node:crypto';
import type { EnginePlan } from '../registry/executors.js';
import type { DataSource } from '../registry/tasks.js';
import type { MethodSettings, Study, StudyProtocol } from './study.js';

/** One training run of a study: everything that its numbers depend on, and nothing else. */
export interface Trial {
  readonly id: string;
  readonly method: string;
  readonly settings: MethodSettings;
  readonly model: string;
  readonly task: string;
  readonly data: DataSource;
  /** The budget as typed; null for a method that takes none. */
  readonly budget: string | null;
  readonly seed: number;
  readonly protocol: StudyProtocol;
  readonly engine: EnginePlan;
  readonly versions: Readonly<Record<string, string>>;
}

/** Content hashes of what trials read: a changed file or model makes new trials. */
export interface Fingerprints {
  readonly model: string;
  /** By task. */
  readonly data: Readonly<Record<string, string>>;
}

/** What is the same for every trial of a run. */
export interface TrialContext {
  readonly study: Study;
  readonly data: DataSource;
  readonly engine: EnginePlan;
  readonly versions: Readonly<Record<string, string>>;
  readonly fingerprints: Fingerprints;
  /** The methods that take a budget; the others run once for all budgets. */
  readonly budgeted: ReadonlySet<string>;
}

/** The trials of a study, seed by seed, so that an interrupted run has whole comparisons. */
export function planTrials({ study, budgeted, ...context }: TrialContext): Trial[] {
  const trials: Trial[] = [];
  for (let seed = 1; seed <= study.seeds; seed++) {
    for (const task of study.tasks) {
      for (const [method, settings] of Object.entries(study.methods)) {
        for (const budget of budgeted.has(method) ? study.budgets : [null]) {
          trials.push(withId({ method, settings, task, budget, seed, ...common(study, context) }, context.fingerprints));
        }
      }
    }
  }
  return trials;
}

function common({ model, protocol }: Study, { data, engine, versions }: Omit<TrialContext, 'study' | 'budgeted'>) {
  return { model, protocol, data, engine, versions };
}

function withId(trial: Omit<Trial, 'id'>, { model, data }: Fingerprints): Trial {
  const { data: _paths, ...content } = trial; // the content of the files counts, not where they lie
  const digest = createHash('sha256')
    .update(canonical({ ...content, fingerprints: { model, data: data[trial.task] } }))
    .digest('hex');
  const prefix = [trial.method, trial.task, trial.budget ?? 'any', `s${trial.seed}`].map(plain).join('-');
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
