/**
 * The training data of both sides, as prepare.ts writes them: tokens, the batches of every epoch, and the initial
 * adapter.
 */
import { readFile } from 'node:fs/promises';
import type { TrainingData, EvaluationData } from '@peftjs/core';
import { evaluationData, glueName, glueTasks, trainingData, type EncodedData, type LabelKind } from '@peftjs/tasks';
import { settings, taskSettings } from './settings.js';

/** A task as tokens. */
export interface PreparedTask {
  /** The kind of task. */
  readonly kind: 'classification' | 'regression';
  /** The names of the classes; empty for regression. */
  readonly classes: readonly string[];
  /** Rows to train on. */
  readonly train: readonly PreparedRow[];
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
export interface PreparedRun {
  /** The training batches, by epoch. */
  readonly epochs: readonly (readonly PlannedBatch[])[];
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

/** The training and development batches of a task, as peftjs makes them, evaluated with GLUE's metrics. */
export function dataOf(
  name: string,
  { kind, train, dev }: Pick<PreparedTask, 'kind' | 'train' | 'dev'>,
  seed: number,
): { train: TrainingData; dev: EvaluationData } {
  const { batchSize } = settings;
  const published = glueName(name);
  const metrics = published && glueTasks.get(published)?.metrics;
  return {
    train: trainingData(encoded(name, kind, train), { batchSize, seed }),
    dev: evaluationData(encoded(name, kind, dev), { batchSize, metrics }),
  };
}

/** The same batches as row indices and lengths. */
export function planOf(task: string, { train, dev }: ReturnType<typeof dataOf>): PreparedRun {
  const { epochs } = taskSettings(task);
  return {
    epochs: Array.from({ length: epochs }, (_, epoch) => train.epoch(epoch).map(planned)),
    dev: dev.batches.map(planned),
  };
}

function planned({ rows, inputs }: EvaluationData['batches'][number]): PlannedBatch {
  return { rows, tokens: inputs.inputIds?.shape[1] ?? 0 };
}

function encoded(
  name: string,
  kind: EncodedData<LabelKind>['kind'],
  rows: readonly PreparedRow[],
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
    maxTokens: settings.maxTokens,
    truncated: 0,
  };
}
