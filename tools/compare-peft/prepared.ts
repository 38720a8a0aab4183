/** What both sides train on, as prepare.ts writes it: tokens, the batches of every epoch, and the adapter to start from. */
import { readFile } from 'node:fs/promises';
import type { TrainingData, EvaluationData } from '@peftjs/core';
import { evaluationData, glueName, glueTasks, trainingData, type EncodedData, type LabelKind } from '@peftjs/tasks';
import { settings, taskSettings } from './settings.js';

/** A task in tokens. */
export interface PreparedTask {
  readonly kind: 'classification' | 'regression';
  readonly classes: readonly string[];
  readonly train: readonly PreparedRow[];
  readonly dev: readonly PreparedRow[];
}

/** A row in tokens. */
export interface PreparedRow {
  readonly ids: readonly number[];
  readonly typeIds: readonly number[];
  readonly label: number;
}

/** Which rows are trained on together, and how long they are padded. */
export interface PlannedBatch {
  readonly rows: readonly number[];
  readonly tokens: number;
}

/** The batches of a run. */
export interface PreparedRun {
  readonly epochs: readonly (readonly PlannedBatch[])[];
  readonly dev: readonly PlannedBatch[];
}

/** Where the files of a task and of its runs lie. */
export const taskFile = (work: string, task: string): string => `${work}/${task}/task.json`;
export const runFolder = (work: string, task: string, seed: number): string => `${work}/${task}/seed-${seed}`;

/** A file of prepare.ts. */
export async function readPrepared<T>(path: string): Promise<T> {
  return JSON.parse(await readFile(path, 'utf8')) as T;
}

/** The training batches and the development batches of a task, as peftjs cuts them; judged by GLUE's metrics. */
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

/** The same batches as row numbers and lengths. */
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
