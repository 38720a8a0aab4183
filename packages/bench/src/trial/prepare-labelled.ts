import type { PretrainedModel } from '@peftjs/models';
import {
  encodeRows,
  evaluationData,
  sliceRows,
  splitSelection,
  trainingData,
  type DataSet,
  type EncodedData,
} from '@peftjs/tasks';
import type { Trial, TrialProtocol } from '../plan/trial.js';
import type { StudyProtocol } from '../plan/study.js';
import type { LabelledTask } from '../registry/tasks.js';
import { lossesOf, type EncodedTask } from './losses.js';
import type { LoadNetwork, TrialData } from './prepare.js';

/** The model with a head for a task's labels, and its rows in tokens. */
export async function labelledData({ protocol }: Trial, task: LabelledTask, load: LoadNetwork): Promise<TrialData> {
  const network = await load('sequence-classification');
  const model = network.withLabels(task.kind === 'regression' ? 1 : task.classes);
  const { dataSeed: seed, batchSize, evaluationBatchSize } = protocol;
  const split = await splitRows(task, protocol);
  const encoded = encodeLabelledTask(split, model, protocol);
  const { train, selection, dev } = encoded;
  const others = Object.entries(encoded.alsoReported);
  const judging = { batchSize: evaluationBatchSize, metrics: task.metrics };
  const subset = async (count: number): Promise<EncodedData> =>
    encodeRows(await sliceRows(split.train, count, seed), model.tokenizer, { maxTokens: train.maxTokens });
  return {
    model,
    task,
    trainingData: (order) => trainingData(train, { batchSize, seed: order }),
    selection: evaluationData(selection, judging),
    dev: evaluationData(dev, judging),
    trainSubset: async (count) => evaluationData(await subset(count), judging),
    alsoReported: Object.fromEntries(others.map(([name, rows]) => [name, evaluationData(rows, judging)])),
    rows: { train: train.rows.length, selection: selection.rows.length, dev: dev.rows.length },
    losses: lossesOf(encoded),
  };
}

/** The rows of a labelled task, as a protocol slices and splits them. */
export interface SplitRows {
  readonly train: DataSet;
  readonly selection: DataSet;
  readonly dev: DataSet;
  readonly alsoReported: Readonly<Record<string, DataSet>>;
}

/** @throws DataError when there are too few rows to set some aside. */
export async function splitRows(
  { train, selection, dev, alsoReported = {} }: LabelledTask,
  { rows, devRows, selectionShare: share, dataSeed: seed }: StudyProtocol | TrialProtocol,
): Promise<SplitRows> {
  const sliced = async (set: DataSet, count: number | null): Promise<DataSet> =>
    count === null ? set : sliceRows(set, count, seed);
  const training = await sliced(train, rows);
  const split = selection ? { train: training, selection } : await splitSelection(training, { share, seed });
  return { ...split, dev: await sliced(dev, devRows), alsoReported };
}

/** The rows of a labelled task in tokens. */
export function encodeLabelledTask(
  { train, selection, dev, alsoReported }: SplitRows,
  { tokenizer, maxTokens: most }: Pick<PretrainedModel, 'tokenizer' | 'maxTokens'>,
  protocol: Pick<TrialProtocol, 'maxTokens'>,
): EncodedTask<EncodedData> {
  const maxTokens = Math.min(protocol.maxTokens, most);
  const encode = (rows: DataSet): EncodedData => encodeRows(rows, tokenizer, { maxTokens });
  const others = Object.entries(alsoReported).map(([name, rows]) => [name, encode(rows)] as const);
  return {
    train: encode(train),
    selection: encode(selection),
    dev: encode(dev),
    alsoReported: Object.fromEntries(others),
  };
}
