/** The training data of both sides, as prepare.ts writes them: tokens, and the batches of every epoch. */
import { readFile } from 'node:fs/promises';
import type { TrainingData, EvaluationData } from '@peftjs/core';
import { evaluationData, glueName, glueTasks, trainingData, type EncodedData, type LabelKind } from '@peftjs/tasks';
import { taskSettings, type Settings } from './settings.js';

/** A task as tokens. */
export interface PreparedTask {
  /** The kind of task. */
  readonly kind: 'classification' | 'regression';
  /** The names of the classes; empty for regression. */
  readonly classes: readonly string[];
  /** Rows to train on. */
  readonly train: readonly PreparedRow[];
  /** Rows to select a checkpoint on; none for the last one. */
  readonly selection: readonly PreparedRow[];
  /** Rows to evaluate on. */
  readonly dev: readonly PreparedRow[];
}

/** A row as tokens. */
export interface PreparedRow {
  /** Token ids. */
  readonly ids: readonly number[];
  /** Token type ids. */
  readonly typeIds: readonly number[];
  /** The class index, or the value. */
  readonly label: number;
}

/** The rows of a batch, and its padded length. */
export interface PlannedBatch {
  /** The indices of the rows. */
  readonly rows: readonly number[];
  /** The length that rows are padded to, in tokens. */
  readonly tokens: number;
}

/** The batches of a run. */
interface PreparedRun {
  /** The training batches, by epoch. */
  readonly epochs: readonly (readonly PlannedBatch[])[];
  /** The batches of the rows that select a checkpoint. */
  readonly selection: readonly PlannedBatch[];
  /** The evaluation batches. */
  readonly dev: readonly PlannedBatch[];
}

/** The path of a task's file. */
export const taskFile = (work: string, task: string): string => `${work}/${task}/task.json`;
/** The folder of a task's run. */
export const runFolder = (work: string, task: string, seed: number): string => `${work}/${task}/seed-${seed}`;

/** Reads a file of prepare.ts. */
export async function readPrepared<T>(path: string): Promise<T> {
  return JSON.parse(await readFile(path, 'utf8')) as T;
}

/** The batches of a run, as peftjs makes them, evaluated with GLUE's metrics. */
export interface RunData {
  /** Batches to train on. */
  readonly train: TrainingData;
  /** Batches to select a checkpoint on; none for the last one. */
  readonly selection: EvaluationData;
  /** Batches to evaluate on. */
  readonly dev: EvaluationData;
}

/** The batches of a task with one seed. */
export function dataOf(
  { batchSize, maxTokens }: Settings,
  name: string,
  { kind, train, selection, dev }: PreparedTask,
  seed: number,
): RunData {
  const published = glueName(name);
  const metrics = published && glueTasks.get(published)?.metrics;
  const encoded = (rows: readonly PreparedRow[]): EncodedData<LabelKind> => encodedRows(name, kind, rows, maxTokens);
  return {
    train: trainingData(encoded(train), { batchSize, seed }),
    selection: evaluationData(encoded(selection), { batchSize, metrics }),
    dev: evaluationData(encoded(dev), { batchSize, metrics }),
  };
}

/** The same batches as row indices and lengths. */
export function planOf(settings: Settings, task: string, { train, selection, dev }: RunData): PreparedRun {
  const { epochs } = taskSettings(settings, task);
  return {
    epochs: Array.from({ length: epochs }, (_, epoch) => train.epoch(epoch).map(planned)),
    selection: selection.batches.map(planned),
    dev: dev.batches.map(planned),
  };
}

function planned({ rows, inputs }: EvaluationData['batches'][number]): PlannedBatch {
  return { rows, tokens: inputs.inputIds?.shape[1] ?? 0 };
}

function encodedRows(
  name: string,
  kind: LabelKind,
  rows: readonly PreparedRow[],
  maxTokens: number,
): EncodedData<LabelKind> {
  return {
    name,
    kind,
    classes: [],
    rows: rows.map(({ ids, typeIds, label }) => ({
      ids: Int32Array.from(ids),
      typeIds: Int32Array.from(typeIds),
      label,
    })),
    maxTokens,
    truncated: 0,
  };
}
