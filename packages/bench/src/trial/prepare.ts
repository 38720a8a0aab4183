import type { EvaluationData, TrainingData } from '@peftjs/core';
import { fromPretrained, type PretrainedModel } from '@peftjs/models';
import type { Trial } from '../plan/trial.js';
import { weightDtype } from '../registry/executors.js';
import { packageFolder } from '../registry/packages.js';
import { loadTask, type LoadedTask } from '../registry/tasks.js';
import type { Losses } from './losses.js';
import { labelledData } from './prepare-labelled.js';
import { languageData } from './prepare-language.js';

/** What a trial trains on and is judged by. */
export interface PreparedTrial {
  readonly model: PretrainedModel;
  readonly task: LoadedTask;
  readonly train: TrainingData;
  readonly selection: EvaluationData;
  readonly dev: EvaluationData;
  /** A part of the training rows, drawn by the seed of the data; all of them where there are no more. */
  trainSubset(rows: number): Promise<EvaluationData>;
  /** Reported beside `dev`, by name. */
  readonly alsoReported: Readonly<Record<string, EvaluationData>>;
  readonly rows: Readonly<Record<'train' | 'selection' | 'dev', number>>;
  readonly losses: Losses;
}

/** What trials of different seeds share: they differ in the order of the training rows. */
export type TrialData = Omit<PreparedTrial, 'train'> & { trainingData(seed: number): TrainingData };

/**
 * Makes trials ready. The network is loaded once for all tasks and protocols, which have heads and rows of their own; it is kept until
 * a trial asks for another one, and rows until those of four other tasks or protocols are asked for.
 */
export function trialPreparer(): (trial: Trial) => Promise<PreparedTrial> {
  let kept = {
    key: '',
    tasks: new Map<string, Promise<TrialData>>(),
    networks: new Map<string, Promise<PretrainedModel>>(),
  };
  return async (trial) => {
    const network = JSON.stringify([trial.model, trial.engine.dtype]);
    if (network !== kept.key) kept = { key: network, tasks: new Map(), networks: new Map() };
    const { tasks, networks } = kept;
    const load: LoadNetwork = (task) => keptIn(networks, task, () => loadNetwork(trial, task));
    const key = JSON.stringify([trial.task, trial.data, trial.protocol]);
    const shared = keptIn(tasks, key, () => loadTrialData(trial, load));
    for (const oldest of [...tasks.keys()].slice(0, -MOST_TASKS)) tasks.delete(oldest);
    const { trainingData: batches, ...rest } = await shared;
    return { ...rest, train: batches(trial.seed) };
  };
}

const MOST_TASKS = 4;

/** Gives a network for tasks of a kind. */
export type LoadNetwork = (task: 'causal-lm' | 'sequence-classification') => Promise<PretrainedModel>;

function loadNetwork({ model, engine }: Trial, task: Parameters<LoadNetwork>[0]): Promise<PretrainedModel> {
  return fromPretrained(model, { task, resolvePackage: packageFolder, dtype: weightDtype(engine) });
}

async function loadTrialData(trial: Trial, load: LoadNetwork): Promise<TrialData> {
  const task = await loadTask(trial.task, trial.data, trial.protocol.split);
  return task.kind === 'causal-lm' ? languageData(trial, task, load) : labelledData(trial, task, load);
}

/** What is kept under a key, which becomes the newest one; made where there is nothing. What fails is not kept. */
function keptIn<T>(kept: Map<string, Promise<T>>, key: string, make: () => Promise<T>): Promise<T> {
  const value = kept.get(key) ?? make();
  kept.delete(key);
  kept.set(key, value);
  value.catch(() => kept.delete(key));
  return value;
}
