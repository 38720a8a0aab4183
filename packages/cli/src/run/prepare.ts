import { diskStorage, type EvaluationData, type TrainingData } from '@peftjs/core';
import { ConfigError, mapValues, warnOnce } from '@peftjs/core/method';
import type { Task as ModelTask } from '@peftjs/core/model';
import { fromPretrained, type PretrainedModel } from '@peftjs/models';
import {
  isPreferenceSet,
  isTextSet,
  causalEvaluation,
  chatML,
  encodeLanguage,
  encodePreferences,
  encodeRows,
  evaluationData,
  preferenceEvaluation,
  flipLabels,
  sliceCausal,
  sliceRows,
  splitCausal,
  splitSelection,
  trainingData,
  type CausalData,
  type CausalTokenizer,
  type DataSet,
  type EncodedData,
  type EncodeLanguageOptions,
  type LanguageSet,
  type PreferenceData,
  type SelectionSplit,
} from '@peftjs/tasks';
import { counted } from '../format.js';
import { weightDtype } from '../registry/executors.js';
import { loading } from '../registry/loading.js';
import {
  isForLanguage,
  loadTask,
  type LabelledTask,
  type LoadedLanguageTask,
  type LoadedTask,
} from '../registry/tasks.js';
import type { StudyProtocol } from '../study/study.js';
import type { Lengths, Trial, TrialProtocol } from '../study/trials.js';

/** The sets of rows of a task. */
interface Sets<Data, Training = Data> {
  /** Rows to train on. */
  readonly train: Training;
  /** Rows that select checkpoints. */
  readonly selection: Data;
  /** Rows that results are reported on. */
  readonly dev: Data;
  /** More reported rows, by name, e.g. a second test set. */
  readonly extraDevSets: Readonly<Record<string, Data>>;
}

/** The model and data of a trial; its training rows are in batches. */
export interface PreparedTrial extends Sets<EvaluationData, TrainingData> {
  /** The model with a head for the task. */
  readonly model: PretrainedModel;
  /** The task. */
  readonly task: LoadedTask;
  /** Returns a sample of the training rows, drawn with the data's seed; all of them if there are fewer. */
  trainSubset(rows: number): Promise<EvaluationData>;
  /** The number of rows, by set. */
  readonly rows: Readonly<Record<'train' | 'selection' | 'dev', number>>;
  /** The rows that are cut or left out. */
  readonly losses: Losses;
}

/** The data that trials with different seeds share: only the order of their training rows differs. */
type TrialData = Omit<PreparedTrial, 'train'> & { trainingData(seed: number): TrainingData };

/**
 * Prepares trials. The network is loaded once for all tasks and protocols, and kept until a trial needs another one.
 * Rows are kept for the last four tasks and protocols.
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
    const load: LoadNetwork = (task) =>
      keptIn(networks, task, () => fromPretrained(trial.model, { ...loading, task, dtype: weightDtype(trial.engine) }));
    const key = JSON.stringify([trial.task, trial.data, trial.protocol]);
    const shared = keptIn(tasks, key, async () => {
      const task = await loadTask(trial.task, trial.data, trial.protocol.split, undefined, trial.protocol);
      return isForLanguage(task) ? languageData(trial, task, load) : labelledData(trial, task, load);
    });
    for (const oldest of [...tasks.keys()].slice(0, -MAX_TASKS)) tasks.delete(oldest);
    const { trainingData: batches, ...rest } = await shared;
    return { ...rest, train: batches(trial.seed) };
  };
}

/** The number of tasks and protocols whose rows are kept. */
const MAX_TASKS = 4;

/** Loads a network for a task. */
type LoadNetwork = (task: ModelTask) => Promise<PretrainedModel>;

/** The task of a model that learns rows of a kind. */
const modelTasks: Readonly<Record<LoadedTask['kind'], ModelTask>> = {
  classification: 'sequence-classification',
  regression: 'sequence-classification',
  'multi-label': 'sequence-classification',
  'token-classification': 'token-classification',
  'causal-lm': 'causal-lm',
  preferences: 'causal-lm',
  pairs: 'feature-extraction',
  triplets: 'feature-extraction',
  'scored-pairs': 'feature-extraction',
};

/** The task of a model that learns a task's rows. */
export function modelTaskOf({ kind }: Pick<LoadedTask, 'kind'>): ModelTask {
  return modelTasks[kind];
}

/** Adds a head for the task's classes to a network; returns it unchanged for embeddings. */
function withHead(network: PretrainedModel, { kind, classes }: LabelledTask): PretrainedModel {
  if (kind === 'regression') return network.withLabels(1);
  if (kind === 'multi-label') return network.withLabels(classes, { problemType: 'multi_label_classification' });
  return modelTasks[kind] === 'feature-extraction' ? network : network.withLabels(classes);
}

/** Returns the value under a key, which becomes the newest one; makes it if missing. Failures are not kept. */
function keptIn<T>(kept: Map<string, Promise<T>>, key: string, make: () => Promise<T>): Promise<T> {
  const value = kept.get(key) ?? make();
  kept.delete(key);
  kept.set(key, value);
  value.catch(() => kept.delete(key));
  return value;
}

/** The model with a head for the task's labels, and the encoded rows. */
async function labelledData({ protocol }: Trial, task: LabelledTask, load: LoadNetwork): Promise<TrialData> {
  const model = withHead(await load(modelTaskOf(task)), task);
  const { dataSeed: seed, batchSize, evaluationBatchSize } = protocol;
  const split = await splitRows(task, protocol);
  const encode = encoderOf(task, model, protocol);
  const encoded = await encodedSets(split, encode);
  const { train, selection, dev, extraDevSets } = encoded;
  const judging = { batchSize: evaluationBatchSize, metrics: task.metrics };
  const subset = async (count: number): Promise<EncodedData> => encode(await sliceRows(split.train, count, seed));
  return {
    model,
    task,
    trainingData: (order) => trainingData(train, { batchSize, seed: order }),
    selection: evaluationData(selection, judging),
    dev: evaluationData(dev, judging),
    trainSubset: async (count) => evaluationData(await subset(count), judging),
    extraDevSets: mapValues(extraDevSets, (rows) => evaluationData(rows, judging)),
    rows: { train: train.rows.length, selection: selection.rows.length, dev: dev.rows.length },
    losses: lossesOf(encoded),
  };
}

/** The rows of a labelled task, sampled and split as a protocol says. */
export type SplitRows = Sets<DataSet>;

/** What a protocol says of rows. */
type RowsProtocol = Omit<StudyProtocol, keyof Lengths | 'learningRate'>;

/**
 * Samples and splits the rows of a task as a protocol says.
 * @throws DataError if there are too few rows to set some aside.
 * @throws ConfigError for flipped labels in rows without classes.
 */
export async function splitRows(
  { train, selection, dev, extraDevSets = {} }: LabelledTask,
  protocol: RowsProtocol,
): Promise<SplitRows> {
  const { devRows, dataSeed: seed, flippedLabels } = protocol;
  const sliced = async (set: DataSet, count: number | null): Promise<DataSet> =>
    count === null ? set : sliceRows(set, count, seed);
  const setAside = async (training: DataSet): Promise<SelectionSplit> =>
    splitSelection(training, { share: selectionShare(training.rows.length, protocol), seed });
  const split = selection
    ? { train: await sliced(train, protocol.rows), selection }
    : await setAside(await sliced(train, rowsToSplit(protocol)));
  const learnt = flippedLabels == null ? split.train : await flipLabels(split.train, { share: flippedLabels, seed });
  return { ...split, train: learnt, dev: await sliced(dev, devRows), extraDevSets };
}

/** Rows that a protocol takes of a training file, both to train and to select on; null for all. */
function rowsToSplit({ rows, selectionRows }: RowsProtocol): number | null {
  return rows === null ? null : rows + (selectionRows ?? 0);
}

/** The share of all rows that a protocol selects on: at most half of them, or what the rows to train on leave. */
function selectionShare(all: number, { rows, selectionRows, selectionShare: share }: RowsProtocol): number {
  if (selectionRows == null) return share;
  return Math.min(selectionRows, Math.max(all / 2, all - (rows ?? all))) / all;
}

/** Encodes rows for a model. */
type Encode = (rows: DataSet) => EncodedData | Promise<EncodedData>;

/** Returns how a model reads the rows of a labelled task: as tokens, or as images. */
export function encoderOf(
  { imagesIn: folder }: Pick<LabelledTask, 'imagesIn'>,
  { tokenizer, maxTokens: most, ...model }: Reader,
  protocol: Pick<TrialProtocol, 'maxTokens'>,
): Encode {
  if (folder === undefined) {
    const maxTokens = Math.min(protocol.maxTokens, most);
    return (rows) => encodeRows(rows, tokenizer, { maxTokens });
  }
  if (model.preprocessor === undefined) {
    throw new ConfigError(
      `--model ${model.name} reads no images; give the folder of a vision network in ONNX, with its preprocessor_config.json`,
      'model',
    );
  }
  return async (rows) => {
    const { encodeImages, imageProcessor } = await import('@peftjs/tasks/images'); // only here: text needs none of it
    const processor = imageProcessor(model.preprocessor);
    return encodeImages(rows as DataSet<'classification'>, { processor, folder, storage: diskStorage() });
  };
}

/** What encoding reads of a model. */
export type Reader = Pick<PretrainedModel, 'tokenizer' | 'maxTokens'> &
  Partial<Pick<PretrainedModel, 'name' | 'preprocessor'>>;

/** Encodes the sets of a labelled task. */
export async function encodedSets(
  { train, selection, dev, extraDevSets }: SplitRows,
  encode: Encode,
): Promise<Sets<EncodedData>> {
  const extra: Record<string, EncodedData> = {};
  for (const [name, rows] of Object.entries(extraDevSets)) extra[name] = await encode(rows);
  return {
    train: await encode(train),
    selection: await encode(selection),
    dev: await encode(dev),
    extraDevSets: extra,
  };
}

/** The language model, and the encoded rows of a task. */
async function languageData({ protocol }: Trial, task: LoadedLanguageTask, load: LoadNetwork): Promise<TrialData> {
  const model = await load('causal-lm');
  const encoded = encodeLanguageTask(task, model, protocol);
  const { train, selection, dev } = encoded;
  const { batchSize, evaluationBatchSize } = protocol;
  const padding = { padId: model.tokenizer.padTokenId };
  const judging = { ...padding, batchSize: evaluationBatchSize };
  const judge = (rows: EncodedLanguage): EvaluationData =>
    rows.kind === 'preferences' ? preferenceEvaluation(rows, judging) : causalEvaluation(rows, judging);
  return {
    model,
    task,
    trainingData: (seed) => trainingData(train, { ...padding, batchSize, seed }),
    selection: judge(selection),
    dev: judge(dev),
    trainSubset: (count) => Promise.resolve(judge(sliceCausal(train, count, protocol.dataSeed))),
    extraDevSets: {},
    rows: { train: train.rows.length, selection: selection.rows.length, dev: dev.rows.length },
    losses: lossesOf(encoded),
  };
}

/**
 * Encodes a language task as rows of tokens, and sets some training rows aside to select checkpoints on.
 * @throws ConfigError for a tokenizer without end-of-text token, DataError if there is too little to learn from.
 */
export function encodeLanguageTask(
  task: LoadedLanguageTask,
  { tokenizer, maxTokens: most }: Pick<PretrainedModel, 'tokenizer' | 'maxTokens'>,
  protocol: RowsProtocol & Pick<TrialProtocol, 'maxTokens'>,
): Sets<EncodedLanguage> {
  const { dataSeed: seed, maxTokens } = protocol;
  const encode = (name: 'train' | 'dev', count: number | null): EncodedLanguage => {
    const set = { ...task[name], name: `${task.name}/${name}` };
    const template = tokenizer.chatTemplate?.render ?? chatML; // `plannedLengths` warns about the fallback
    const rows = encodeSet(set, tokenizer, { maxTokens: Math.min(maxTokens, most), template });
    const whole = isTextSet(set) ? { ...rows, dropped: 0 } : rows; // the last token of packed texts does not count as lost
    return count === null ? whole : sliceCausal(whole, count, seed);
  };
  const training = encode('train', rowsToSplit(protocol));
  const split = splitCausal(training, { share: selectionShare(training.rows.length, protocol), seed });
  return { ...split, dev: encode('dev', protocol.devRows), extraDevSets: {} };
}

/** Encoded rows for a language model. */
type EncodedLanguage = CausalData | PreferenceData;

/** Encodes rows of any form for a language model. */
export function encodeSet(set: LanguageSet, tokenizer: CausalTokenizer, options: EncodeLanguageOptions) {
  return isPreferenceSet(set) ? encodePreferences(set, tokenizer, options) : encodeLanguage(set, tokenizer, options);
}

/** The encoded rows of a task: of tables, or of texts for a language model. */
export type EncodedTask = Sets<EncodedData | EncodedLanguage>;

/** What a task's rows lose to the maximal length. */
interface Losses {
  /** The number of rows that are cut, by set. */
  readonly truncated: Readonly<Record<string, number>>;
  /** The number of prompts and conversations left out because nothing to learn remains, by file. */
  readonly leftOut?: Readonly<Record<'train' | 'dev', number>>;
}

/** Counts the rows that are cut or left out. */
function lossesOf({ train, selection, dev, extraDevSets }: EncodedTask): Losses {
  const sets = Object.entries({ train, selection, dev, ...extraDevSets });
  const truncated = Object.fromEntries(sets.map(([set, data]) => [set, data.truncated]));
  if (!('dropped' in train && 'dropped' in dev)) return { truncated };
  return { truncated, leftOut: { train: train.dropped, dev: dev.dropped } };
}

/** Warns in one line of what a task loses, if anything. `most` is the model's own limit. */
export function warnOfLosses(name: string, encoded: EncodedTask, most: number): void {
  const { train, selection, dev, extraDevSets } = encoded;
  const { maxTokens } = train;
  const { leftOut = { train: 0, dev: 0 } } = lossesOf(encoded);
  const cut = Object.entries({ training: train, selection, dev, ...extraDevSets })
    .filter(([, { truncated }]) => truncated > 0)
    .map(([set, { truncated, rows }]) => `${truncated} of ${counted(rows.length, `${set} row`)}`);
  const out = Object.entries({ training: leftOut.train, dev: leftOut.dev })
    .filter(([, count]) => count > 0)
    .map(([set, count]) => counted(count, `${set} row`));
  const parts = [
    [`rows longer than ${maxTokens} tokens are cut: `, cut],
    [`left out, because their first ${maxTokens} tokens have nothing to learn: `, out],
  ] as const;
  const lost = parts.flatMap(([what, sets]) => (sets.length > 0 ? [`${what}${sets.join(', ')}`] : []));
  const remedy = maxTokens < most ? 'raise the length with --max-tokens N' : "this is the model's limit";
  if (lost.length > 0) warnOnce(`${name}: ${lost.join('; ')}; ${remedy}`);
}
