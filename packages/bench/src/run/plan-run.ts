import { ConfigError, UnsupportedError, warnOnce, type PeftMethod } from '@peftjs/core/method';
import { assertReads } from '@peftjs/core/runtime';
import { fromPretrained, type PretrainedModel } from '@peftjs/models';
import { isOnDevice, resolveEngine, weightDtype, type EnginePlan } from '../registry/executors.js';
import { lossNamed } from '../registry/losses.js';
import { everyMethod, isHeadAlone, resolveMethod, type ResolvedMethod } from '../registry/methods.js';
import { packageFolder } from '../registry/packages.js';
import { loadTask, type LoadedTask } from '../registry/tasks.js';
import { pathOfNoJson } from '../results/json.js';
import { fitConfig, isAuto, parseBudget } from '../study/budgets.js';
import { budgetsOf, type ArmSettings, type ComposedStudy, type Study } from '../study/study.js';
import { numericVersions, type TrialContext } from '../study/trials.js';
import { dataFingerprint } from './as-planned.js';
import { plannedTokens } from './planned-tokens.js';
import { modelTaskOf } from './prepare.js';
import { assertStarts } from './processes.js';

/** What a run's trials are planned from, after everything that can be checked beforehand has been. */
export interface PlannedRun {
  readonly engine: EnginePlan;
  readonly plan: TrialContext;
  readonly tasks: ReadonlyMap<string, LoadedTask>;
}

/**
 * Loads the methods, the model and the data of a study, and tries every configuration.
 * @throws PeftError for the first thing that cannot work.
 */
export async function planRun({ study, data, engine: asked }: ComposedStudy): Promise<PlannedRun> {
  for (const settings of Object.values(study.methods)) triedBudgets(settings, study).forEach(parseBudget);
  const { engine, versions } = await resolveEngine(asked);
  if (isOnDevice(engine)) await assertStarts(engine);
  const arms = Object.values(study.methods);
  const methods = await resolveAll(arms.map(({ method }) => method));
  await assertChoosing(study, methods);
  const tasks = new Map<string, LoadedTask>();
  for (const name of study.tasks) {
    const task = await loadTask(name, data, study.protocol.split);
    assertFlips(task, study.protocol);
    if (study.protocol.loss !== undefined) assertReads(lossNamed(study.protocol.loss), task.kind);
    tasks.set(name, task);
  }
  const model = await modelFor([...tasks.values()], study.model, engine);
  tryConfigs(study, methods, model);
  const maxTokens: Record<string, number> = {};
  for (const [name, task] of tasks) maxTokens[name] = await plannedTokens(task, model, study.protocol);
  for (const task of tasks.values()) sayHeldOut(task);
  const namesOf = (has: (method: PeftMethod) => boolean): ReadonlySet<string> =>
    new Set([...methods].filter(([, { method }]) => has(method)).map(([name]) => name));
  const plan: TrialContext = {
    study,
    data,
    engine,
    budgeted: namesOf(({ fitBudget }) => fitBudget !== undefined),
    headAlone: namesOf(isHeadAlone),
    defaultRates: new Map(
      [...methods].flatMap(([name, { method }]) =>
        method.defaultLearningRate === undefined ? [] : [[name, method.defaultLearningRate] as const],
      ),
    ),
    versions: { ...(await numericVersions()), ...versions },
    maxTokens,
    methodVersions: new Map([...methods].map(([name, { offer }]) => [name, { [offer.packageName]: offer.version }])),
    fingerprints: {
      model: model.fingerprint,
      data: Object.fromEntries([...tasks].map(([name, task]) => [name, dataFingerprint(task, model)])),
    },
  };
  return { engine, plan, tasks };
}

/** @throws ConfigError for labels to be flipped of rows that have no class. */
function assertFlips({ name, kind }: LoadedTask, { flippedLabels }: Study['protocol']): void {
  if (flippedLabels == null || kind === 'classification') return;
  throw new ConfigError(
    `protocol.flippedLabels gives rows another class, and '${name}' is for ${kind}; leave it out`,
    'protocol.flippedLabels',
  );
}

/** The budgets that an arm has in a study, that of the tuning among them. */
function triedBudgets(settings: ArmSettings, study: Study): string[] {
  const budgets = budgetsOf(settings, study).filter((budget) => budget !== null);
  const tuned = study.tuning?.budget;
  return budgets.length > 0 && tuned ? [...new Set([...budgets, tuned])] : budgets;
}

/** That the arms whose size is to choose itself have methods that can. @throws ConfigError naming those that can. */
async function assertChoosing(study: Study, methods: ReadonlyMap<string, ResolvedMethod>): Promise<void> {
  const unable = Object.values(study.methods).find((settings) => {
    const method = methods.get(settings.method)?.method;
    return method?.fitBudget && !method.sizing && triedBudgets(settings, study).some(isAuto);
  });
  if (!unable) return;
  const able = (await everyMethod()).filter(({ sizing }) => sizing).map(({ name }) => name);
  throw new ConfigError(
    `--budget auto: ${unable.method} does not choose its size; of the installed methods ${able.join(', ') || 'none'} can: give the others a budget`,
    'budget',
  );
}

/** Solves every arm's configuration for every budget. @throws ConfigError for the first that has none, or one that no file can hold. */
function tryConfigs(study: Study, methods: ReadonlyMap<string, ResolvedMethod>, model: PretrainedModel): void {
  const { protocol } = study;
  for (const settings of Object.values(study.methods)) {
    const method = methods.get(settings.method)?.method;
    if (!method) continue;
    const budgets = method.fitBudget ? triedBudgets(settings, study) : [];
    for (const budget of budgets.length > 0 ? budgets : [null])
      assertWritable(settings.method, fitConfig(method, model, { budget, settings, protocol }).config);
  }
}

/** @throws ConfigError naming the option that a result file cannot hold. */
function assertWritable(method: string, config: object): void {
  const option = pathOfNoJson(config);
  if (option === undefined) return;
  throw new ConfigError(
    `--method ${method}: its configuration has '${option}', which is not JSON, and a result file could not hold it; expected texts, finite numbers, true, false, null, and lists and plain objects of them`,
    option,
  );
}

/** Says which rows are reported where no file is for them. */
function sayHeldOut({ name, train, dev, heldOut }: LoadedTask): void {
  if (!heldOut) return;
  const all = train.rows.length + dev.rows.length;
  warnOnce(
    `${name}: there is no development file: ${dev.rows.length} of ${all} rows, always the same ones, are held out to report on; --dev FILE reports on others`,
  );
}

/**
 * The model of a study.
 * @throws ConfigError for tasks that need different ones, UnsupportedError for a task that it has no head for.
 */
async function modelFor(tasks: readonly LoadedTask[], name: string, engine: EnginePlan): Promise<PretrainedModel> {
  const [first] = tasks as readonly [LoadedTask];
  const task = modelTaskOf(first);
  const other = tasks.find((each) => modelTaskOf(each) !== task);
  if (other) {
    throw new ConfigError(
      `'${first.name}' needs a model for ${task} and '${other.name}' one for ${modelTaskOf(other)}; run them apart`,
      'task',
    );
  }
  return fromPretrained(name, { resolvePackage: packageFolder, dtype: weightDtype(engine), task }).catch(
    (error: unknown) => {
      if (!(error instanceof UnsupportedError)) throw error;
      const way =
        task === 'causal-lm'
          ? `is for a language model, and ${name} is none (${error.message}); name a decoder by --model, or give files with labels`
          : `is for ${task}, which ${name} cannot do (${error.message}); name another model by --model`;
      throw new UnsupportedError(`'${first.name}' ${way}`, 'model', error);
    },
  );
}

async function resolveAll(names: readonly string[]): Promise<Map<string, ResolvedMethod>> {
  const methods = new Map<string, ResolvedMethod>();
  for (const name of names) methods.set(name, await resolveMethod(name));
  return methods;
}
