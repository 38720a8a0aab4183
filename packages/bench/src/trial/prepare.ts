import type { EvaluationData, TrainingData } from '@peftjs/core';
import { fromPretrained, type PretrainedModel } from '@peftjs/models';
import {
  chooseBuckets,
  encodeRows,
  evaluationData,
  sliceRows,
  splitSelection,
  trainingData,
  type DataSet,
} from '@peftjs/tasks';
import type { Trial } from '../plan/trial.js';
import { packageFolder } from '../registry/packages.js';
import { loadTask, type LoadedTask } from '../registry/tasks.js';

/** What a trial trains on and is judged by. */
export interface PreparedTrial {
  readonly model: PretrainedModel;
  readonly task: LoadedTask;
  readonly train: TrainingData;
  readonly selection: EvaluationData;
  readonly dev: EvaluationData;
  /** Reported beside `dev`, by name. */
  readonly alsoReported: Readonly<Record<string, EvaluationData>>;
  readonly rows: Readonly<Record<'train' | 'selection' | 'dev', number>>;
}

type TrialData = Omit<PreparedTrial, 'train'> & { trainingData(seed: number): TrainingData };

/** Makes trials ready; what they share (model, tokenised rows) is made once. */
export function trialPreparer(): (trial: Trial) => Promise<PreparedTrial> {
  const prepared = new Map<string, Promise<TrialData>>();
  return async (trial) => {
    const key = JSON.stringify([trial.model, trial.task, trial.data, trial.protocol]);
    const shared = prepared.get(key) ?? loadTrialData(trial);
    prepared.set(key, shared);
    const { trainingData: batches, ...rest } = await shared;
    return { ...rest, train: batches(trial.seed) };
  };
}

async function loadTrialData({ model: name, task: taskName, data, protocol }: Trial): Promise<TrialData> {
  const task = await loadTask(taskName, data, protocol.split);
  const model = await fromPretrained(name, {
    numLabels: task.kind === 'regression' ? 1 : task.classes.length,
    resolvePackage: packageFolder,
  });
  const { dataSeed: seed, selectionShare, batchSize, evaluationBatchSize } = protocol;
  const rows = await sliced(task.train, protocol.rows, seed);
  const split = task.selection
    ? { train: rows, selection: task.selection }
    : await splitSelection(rows, { share: selectionShare, seed });
  const dev = await sliced(task.dev, protocol.devRows, seed);
  const maxTokens = Math.min(protocol.maxTokens, model.maxTokens);
  const encode = (rows: DataSet) => encodeRows(rows, model.tokenizer, { maxTokens });
  const [train, selection, reported] = [encode(split.train), encode(split.selection), encode(dev)];
  const others = Object.entries(task.alsoReported ?? {}).map(([name, rows]) => [name, encode(rows)] as const);
  const buckets = chooseBuckets([train, selection, reported, ...others.map(([, rows]) => rows)], { batchSize });
  const judging = { batchSize: evaluationBatchSize, buckets, metrics: task.metrics };
  return {
    model,
    task,
    trainingData: (order) => trainingData(train, { batchSize, buckets, seed: order }),
    selection: evaluationData(selection, judging),
    dev: evaluationData(reported, judging),
    alsoReported: Object.fromEntries(others.map(([name, rows]) => [name, evaluationData(rows, judging)])),
    rows: { train: split.train.rows.length, selection: split.selection.rows.length, dev: dev.rows.length },
  };
}

async function sliced(rows: DataSet, count: number | null, seed: number): Promise<DataSet> {
  return count === null ? rows : sliceRows(rows, count, seed);
}
