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
import type { LabelledTask } from '../registry/tasks.js';
import type { LoadNetwork, TrialData } from './prepare.js';

/** The model with a head for a task's labels, and its rows in tokens. */
export async function labelledData({ protocol }: Trial, task: LabelledTask, load: LoadNetwork): Promise<TrialData> {
  const network = await load('sequence-classification');
  const model = network.withLabels(task.kind === 'regression' ? 1 : task.classes.length);
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
    trainSubset: async (count) => evaluationData(encode(await sliceRows(split.train, count, seed)), judging),
    alsoReported: Object.fromEntries(others.map(([name, rows]) => [name, evaluationData(rows, judging)])),
    rows: { train: split.train.rows.length, selection: split.selection.rows.length, dev: dev.rows.length },
  };
}

async function sliced(rows: DataSet, count: number | null, seed: number): Promise<DataSet> {
  return count === null ? rows : sliceRows(rows, count, seed);
}
