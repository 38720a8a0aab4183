import type { EvaluationData, TrainingData } from '@peftjs/core';
import type { PretrainedModel } from '@peftjs/models';
import type { Trial } from '../plan/trial.js';
import { loadTask, type LoadedTask } from '../registry/tasks.js';
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
}

/** What trials of different seeds share: they differ in the order of the training rows. */
export type TrialData = Omit<PreparedTrial, 'train'> & { trainingData(seed: number): TrainingData };

/** Makes trials ready; what they share (model, tokenised rows) is made once, and kept until there is another model. */
export function trialPreparer(): (trial: Trial) => Promise<PreparedTrial> {
  const prepared = new Map<string, Promise<TrialData>>();
  let model = '';
  return async (trial) => {
    if (trial.model !== model) prepared.clear();
    model = trial.model;
    const key = JSON.stringify([trial.model, trial.engine.dtype, trial.task, trial.data, trial.protocol]);
    const shared = prepared.get(key) ?? loadTrialData(trial);
    prepared.set(key, shared);
    shared.catch(() => prepared.delete(key));
    const { trainingData: batches, ...rest } = await shared;
    return { ...rest, train: batches(trial.seed) };
  };
}

async function loadTrialData(trial: Trial): Promise<TrialData> {
  const task = await loadTask(trial.task, trial.data, trial.protocol.split);
  return task.kind === 'causal-lm' ? languageData(trial, task) : labelledData(trial, task);
}
