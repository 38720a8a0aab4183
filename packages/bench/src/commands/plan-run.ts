import { ConfigError } from '@peftjs/core';
import { fromPretrained } from '@peftjs/models';
import type { DataSet } from '@peftjs/tasks';
import { parseBudget } from '../plan/budget.js';
import { planTrials, type Trial } from '../plan/trial.js';
import { numericVersions } from '../plan/versions.js';
import { resolveEngine } from '../registry/executors.js';
import { resolveMethod, type ResolvedMethod } from '../registry/methods.js';
import { packageFolder } from '../registry/packages.js';
import { loadTask, type LoadedTask } from '../registry/tasks.js';
import { fitConfig } from '../trial/configure.js';
import type { ComposedStudy } from './study-flags.js';

/** The trials of a run, after everything that can be checked beforehand has been. */
export interface PlannedRun {
  readonly trials: readonly Trial[];
  readonly tasks: ReadonlyMap<string, LoadedTask>;
}

/**
 * Loads the methods, the model and the data of a study, tries every configuration, and plans the trials.
 * @throws PeftError for the first thing that cannot work.
 */
export async function planRun({ study, data, engine: asked }: ComposedStudy): Promise<PlannedRun> {
  study.budgets.forEach(parseBudget);
  const methods = await resolveAll(Object.keys(study.methods));
  const tasks = new Map<string, LoadedTask>();
  for (const name of study.tasks) tasks.set(name, await loadTask(name, data, study.protocol.split));
  const model = await fromPretrained(study.model, { resolvePackage: packageFolder });
  const budgeted = new Set([...methods].filter(([, { method }]) => method.fitBudget).map(([name]) => name));
  for (const [name, { method }] of methods) {
    const settings = study.methods[name];
    if (!settings) throw new ConfigError(`the study has no settings for '${name}'`, name);
    for (const budget of budgeted.has(name) ? study.budgets : [null]) fitConfig(method, model, { budget, settings });
  }
  const engine = await resolveEngine(asked);
  const trials = planTrials({
    study,
    data,
    engine,
    budgeted,
    versions: await numericVersions(),
    methodVersions: new Map([...methods].map(([name, { offer }]) => [name, { [offer.packageName]: offer.version }])),
    fingerprints: {
      model: model.fingerprint,
      data: Object.fromEntries(
        [...tasks].map(([name, task]) => [
          name,
          dataSets(task)
            .map(({ fingerprint }) => fingerprint)
            .join(' '),
        ]),
      ),
    },
  });
  return { trials, tasks };
}

/** Every set of rows that a task's numbers come from. */
function dataSets({ train, dev, selection, alsoReported = {} }: LoadedTask): DataSet[] {
  return [train, dev, ...(selection ? [selection] : []), ...Object.values(alsoReported)];
}

async function resolveAll(names: readonly string[]): Promise<Map<string, ResolvedMethod>> {
  const methods = new Map<string, ResolvedMethod>();
  for (const name of names) methods.set(name, await resolveMethod(name));
  return methods;
}
