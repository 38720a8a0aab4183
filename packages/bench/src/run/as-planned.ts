import { createHash } from 'node:crypto';
import { CheckpointError, DataError, UnsupportedError } from '@peftjs/core/method';
import type { PretrainedModel } from '@peftjs/models';
import { areChats, type DataSet, type LanguageSet } from '@peftjs/tasks';
import { commandName } from '../registry/command-name.js';
import { resolveEngine } from '../registry/executors.js';
import { resolveMethod } from '../registry/methods.js';
import type { DataSource, LoadedTask } from '../registry/tasks.js';
import { numericVersions, type Trial, type Versions } from '../study/trials.js';
import type { PreparedTrial } from './prepare.js';

/** Where the model and the data of a trial are on the machine that runs it. */
export interface TrialPlaces {
  readonly model: string;
  readonly data: DataSource;
}

/**
 * Makes a trial ready that was planned on another machine.
 * @throws PeftError where this one has not what was planned: the versions, the method, the model or the rows.
 */
export async function prepareAsPlanned(
  trial: Trial,
  at: TrialPlaces,
  prepare: (trial: Trial) => Promise<PreparedTrial>,
): Promise<PreparedTrial> {
  await assertVersions(trial);
  const prepared = await prepare({ ...trial, ...at }).catch((error: unknown) => withoutContent(error, trial));
  const { fingerprints } = trial;
  if (prepared.model.fingerprint !== fingerprints.model) {
    throw new CheckpointError(`the model ${at.model} is another one here than where the run was planned`, at.model);
  }
  if (dataFingerprint(prepared.task, prepared.model) !== fingerprints.data) {
    throw new DataError(`the rows of ${trial.task} are others here than where the run was planned`, trial.task);
  }
  return prepared;
}

/** Messages about rows quote them, and this one goes to others: a job may name any file that is readable here. */
function withoutContent(error: unknown, { task }: Trial): never {
  if (!(error instanceof DataError)) throw error;
  throw new DataError(
    `the files of ${task} cannot be read here; ${commandName} run with the same files says why`,
    task,
  );
}

/** @throws UnsupportedError naming the first version that is another one, ConfigError where the method is not installed. */
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
      `${name} is ${here[name] ?? 'not there'}, and ${planned[name] ?? 'not there'} in the run`,
    );
  }
  const { backend, threads } = resolved.engine;
  if (backend !== engine.backend || threads !== engine.threads) {
    throw new UnsupportedError(`the engine runs on ${backend} here, and on ${engine.backend} in the run`, 'backend');
  }
}

/** What the content of a task's rows is told by, and for a language model what is put around them. */
export function dataFingerprint(task: LoadedTask, model: PretrainedModel): string {
  return [...dataSets(task).map(({ fingerprint }) => fingerprint), ...marksOf(task, model)].join(' ');
}

/** Every set of rows that a task's numbers come from. */
function dataSets(task: LoadedTask): (DataSet | LanguageSet)[] {
  if (task.kind === 'causal-lm') return [task.train, task.dev];
  const { train, dev, selection, alsoReported = {} } = task;
  return [train, dev, ...(selection ? [selection] : []), ...Object.values(alsoReported)];
}

/** What is put around the texts of a language task: no part of the model's fingerprint, but of the rows. */
function marksOf(task: LoadedTask, { tokenizer }: PretrainedModel): string[] {
  if (task.kind !== 'causal-lm') return [];
  const { eosTokenId, bosTokenId, addBosToken, chatTemplate } = tokenizer;
  const around = `${addBosToken ? String(bosTokenId) : ''}..${String(eosTokenId)}`;
  if (!chatTemplate || ![task.train, task.dev].some(areChats)) return [around];
  return [around, createHash('sha256').update(chatTemplate.source).digest('hex')];
}
