import { CheckpointError, DataError, UnsupportedError } from '@peftjs/core/method';
import type { PretrainedModel } from '@peftjs/models';
import { isChatSet } from '@peftjs/tasks';
import { commandName } from '../registry/command-name.js';
import { resolveEngine } from '../registry/executors.js';
import { resolveMethod } from '../registry/methods.js';
import { isForLanguage, type DataSource, type LoadedTask } from '../registry/tasks.js';
import { canonical, sha256 } from '../results/json.js';
import { numericVersions, type Trial, type Versions } from '../study/trials.js';
import type { PreparedTrial } from './prepare.js';

/** The paths of a trial's model and data on the machine that runs it. */
export interface TrialPaths {
  /** The model: a folder, an npm package or a hub id. */
  readonly model: string;
  /** Where the data are. */
  readonly data: DataSource;
}

/** Loads the model and data of a trial. */
type Prepare = (trial: Trial) => Promise<PreparedTrial>;

/**
 * Prepares trials that were planned on other machines, with a preparer that keeps what it has read. Files may have been
 * replaced since, so a trial that is refused is prepared once more without anything that was read for an earlier one.
 */
export function plannedPreparer(open: () => Prepare): (trial: Trial, at: TrialPaths) => Promise<PreparedTrial> {
  let kept: Prepare | undefined;
  return async function prepared(trial, at) {
    const prepare = kept ?? open();
    const isFresh = kept === undefined;
    kept = prepare;
    try {
      return await prepareAsPlanned(trial, at, prepare);
    } catch (error) {
      kept = undefined;
      if (isFresh) throw error;
      return prepared(trial, at);
    }
  };
}

/**
 * Prepares a trial that was planned on another machine.
 * @throws PeftError if the versions, method, model or rows here differ from the plan.
 */
export async function prepareAsPlanned(trial: Trial, at: TrialPaths, prepare: Prepare): Promise<PreparedTrial> {
  await assertVersions(trial);
  const prepared = await prepare({ ...trial, ...at }).catch((error: unknown) => withoutContent(error, trial));
  assertAsPlanned({ ...trial, ...at }, prepared, 'here differ from those where the run was planned');
  return prepared;
}

/**
 * Checks that a trial reads what it was planned with, by default on this machine. `differ` ends the message if not.
 * @throws CheckpointError or DataError if the model or the rows are others.
 */
export function assertAsPlanned(
  { model: name, task: taskName, fingerprints, protocol }: Trial,
  { model, task }: PreparedTrial,
  differ = 'have changed since the run was planned; rerun the command to plan it again',
): void {
  if (model.fingerprint !== fingerprints.model)
    throw new CheckpointError(`the files of the model ${name} ${differ}`, taskName);
  if (dataFingerprint(task, model, protocol) !== fingerprints.data)
    throw new DataError(`the rows of ${taskName} ${differ}`, taskName);
}

/**
 * Hides the content of rows, which messages about rows quote: this message goes to others, and a job may name any
 * readable file.
 */
function withoutContent(error: unknown, { task }: Trial): never {
  if (!(error instanceof DataError)) throw error;
  throw new DataError(
    `the files of ${task} cannot be read here; ${commandName} run with the same files shows why`,
    task,
  );
}

/**
 * @throws UnsupportedError naming the first version that differs from the plan, ConfigError if the method is not
 * installed.
 */
async function assertVersions({ method, engine, versions: planned }: Trial): Promise<void> {
  const { offer } = await resolveMethod(method);
  const resolved = await resolveEngine(engine);
  const here: Versions = {
    ...(await numericVersions()),
    ...resolved.versions,
    [offer.packageName]: offer.version,
  };
  for (const name of new Set([...Object.keys(planned), ...Object.keys(here)])) {
    if (here[name] === planned[name]) continue;
    throw new UnsupportedError(
      `${name} is ${here[name] ?? 'missing'} here, but ${planned[name] ?? 'missing'} in the run`,
    );
  }
  const { backend, threads } = resolved.engine;
  if (backend !== engine.backend || threads !== engine.threads) {
    throw new UnsupportedError(`the engine runs on ${backend} here, but on ${engine.backend} in the run`, 'backend');
  }
}

/**
 * The fingerprint of a task's rows, and of what a trial reads of the model's files that is not in the model's
 * fingerprint: how images become pixels, the special tokens and chat template around rows for a language model, and the
 * rates of the network's own dropout.
 */
export function dataFingerprint(
  task: LoadedTask,
  model: PretrainedModel,
  { dropout }: Pick<Trial['protocol'], 'dropout'>,
): string {
  const pixels = 'imagesIn' in task ? [sha256(canonical(model.preprocessor ?? null))] : [];
  const rates = dropout === 'config' ? [canonical(model.dropouts ?? {})] : [];
  return [rowsFingerprint(task, model), ...pixels, ...rates].join(' ');
}

function rowsFingerprint(task: LoadedTask, { tokenizer }: PretrainedModel): string {
  const { train, dev } = task;
  if (!isForLanguage(task)) {
    const { selection, extraDevSets = {} } = task;
    const sets = [train, dev, ...(selection ? [selection] : []), ...Object.values(extraDevSets)];
    return sets.map(({ fingerprint }) => fingerprint).join(' ');
  }
  const { eosTokenId, bosTokenId, addBosToken, chatTemplate } = tokenizer;
  const around = `${addBosToken ? String(bosTokenId) : ''}..${String(eosTokenId)}`;
  const sets = [task.train, task.dev];
  const { source, toolSource } = (sets.some(isChatSet) && chatTemplate) || {};
  const hasTools = sets.some(({ rows }) => rows.some((row) => 'tools' in row));
  const read = [source, hasTools ? toolSource : undefined].filter((text) => text !== undefined);
  return [train.fingerprint, dev.fingerprint, around, ...read.map(sha256)].join(' ');
}
