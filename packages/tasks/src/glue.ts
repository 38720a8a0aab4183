import type { Storage } from '@peftjs/core';
import { ConfigError } from '@peftjs/core/method';
import type { DataSet, LabelKind } from './data-set.js';
import { metricSet, type MetricSet, type Task, taskOf } from './task.js';
import {
  applySplit,
  inFolder,
  onHub,
  type PublishedColumns,
  type PublishedFile,
  publishedRows,
  type PublishedTaskOptions,
  type ReadHubFile,
  type ReadPublished,
} from './published.js';
import { decodeText, parseTsv } from './table.js';

/** The training split, by its name in either layout. */
const train: GlueSplit = { file: 'train', hub: 'train' };

/**
 * Reads a GLUE task from a folder with the suite: `CoLA/train.tsv` etc. as on the GLUE site (or only that task's
 * files), or `cola/train-00000-of-00001.parquet` as on the hub.
 * @throws ConfigError for an unknown task, DataError for a missing or malformed file.
 */
export async function glueTask(
  name: string,
  folder: string,
  storage: Storage,
  options: PublishedTaskOptions = {},
): Promise<Task<LabelKind>> {
  return assemble(glueEntry(name), inFolder(folder, storage), options);
}

/**
 * Reads a GLUE task from the Parquet files of the hub's `nyu-mll/glue`.
 * @param readFile reads a file of that repository
 * @throws ConfigError for an unknown task, DataError for a malformed file, and whatever `readFile` throws.
 */
export async function readHubGlue(
  name: string,
  readFile: ReadHubFile,
  options: PublishedTaskOptions = {},
): Promise<Task<LabelKind>> {
  return assemble(glueEntry(name), onHub(readFile), options);
}

/**
 * Reads the rows of one file of a GLUE task, TSV or Parquet by its extension.
 * @throws ConfigError for an unknown task, DataError for a malformed file, e.g. one with hidden labels.
 */
export async function readGlueFile(
  bytes: Uint8Array,
  { task, path }: { readonly task: string; readonly path: string },
): Promise<DataSet<LabelKind>> {
  const entry = glueEntry(task);
  return readSplit(entry, entry.name, { bytes, path });
}

async function assemble(
  entry: GlueEntry,
  readFile: ReadPublished,
  { split = 'official', seed }: PublishedTaskOptions,
): Promise<Task<LabelKind>> {
  const read = async (split: GlueSplit) =>
    readSplit(entry, `${entry.name}/${split.file}`, await readFile(splitPaths(entry, split)));
  const [first, ...others] = entry.devs as [GlueSplit, ...GlueSplit[]];
  const task = taskOf(entry.name, await read(train), await read(first), entry.metrics);
  const also = await Promise.all(others.map(async (dev) => [dev.file.replace('dev_', ''), await read(dev)] as const));
  const whole = also.length > 0 ? { ...task, extraDevSets: Object.fromEntries(also) } : task;
  return applySplit(whole, split, { selectionFrom: entry.selectionFrom, seed });
}

function readSplit(entry: GlueEntry, name: string, file: PublishedFile): Promise<DataSet<LabelKind>> {
  const { classes, columns: own, header: columns, hub, skipsBrokenLines } = entry;
  return publishedRows(name, file, {
    hub: { ...hub, label: 'label' },
    own,
    classes,
    parse: (bytes, path) => parseTsv(decodeText(bytes, path), path, { columns, skipsBrokenLines }),
  });
}

/**
 * The possible paths of a split. MRPC's files are called `.raw.tsv` if they were made from the original, untokenised
 * sentences.
 */
function splitPaths({ folder, name }: GlueEntry, { file, hub }: GlueSplit): string[] {
  const files = [`${file}.tsv`, `${file}.raw.tsv`];
  const configuration = folder === 'MNLI' ? 'mnli' : name;
  return [...files.map((each) => `${folder}/${each}`), ...files, `${configuration}/${hub}-00000-of-00001.parquet`];
}

/** The names of the GLUE tasks on the hub, and `mnli-mm`: MNLI, reported on the mismatched development set. */
export type GlueName = 'cola' | 'sst2' | 'mrpc' | 'qqp' | 'stsb' | 'mnli' | 'mnli-mm' | 'qnli' | 'rte' | 'wnli';

/** A task of the GLUE suite: its question, its metrics and its files. */
export interface GlueEntry {
  /** The name of the task. */
  readonly name: GlueName;
  /** The question that the task asks. */
  readonly description: string;
  /** The task's folder in the standard layout. */
  readonly folder: string;
  /** Class names by label, numbered as on the hub; empty for regression. */
  readonly classes: readonly string[];
  /** The columns in the TSV files of the standard layout. */
  readonly columns: PublishedColumns;
  /** All column names, for a file without a header line. */
  readonly header?: readonly string[];
  /** Whether broken lines of the published files are skipped, as other readers do. */
  readonly skipsBrokenLines?: boolean;
  /** The text columns in the Parquet files of the hub; their label column is `label`. */
  readonly hub: Pick<PublishedColumns, 'text' | 'pair'>;
  /** The published metrics; the primary one selects a checkpoint. */
  readonly metrics: MetricSet;
  /** The development sets, the reported one first. */
  readonly devs: readonly GlueSplit[];
  /** The set from which the half-dev split takes its selection rows. */
  readonly selectionFrom: 'dev' | 'train';
  /** The number of published rows. */
  readonly rows: { readonly train: number; readonly dev: number };
  /** The licence of the data. */
  readonly licence: string;
}

/** A split, by its name in either layout. */
export interface GlueSplit {
  /** The name of its TSV file, without extension. */
  readonly file: string;
  /** Its name on the hub. */
  readonly hub: string;
}

const dev: readonly GlueSplit[] = [{ file: 'dev', hub: 'validation' }];
const matched: GlueSplit = { file: 'dev_matched', hub: 'validation_matched' };
const mismatched: GlueSplit = { file: 'dev_mismatched', hub: 'validation_mismatched' };
const sentences = { text: 'sentence1', pair: 'sentence2' };
const entailment = ['entailment', 'not_entailment'];

const mnli: GlueEntry = {
  name: 'mnli',
  description: 'Does a premise entail a hypothesis, contradict it, or neither?',
  folder: 'MNLI',
  classes: ['entailment', 'neutral', 'contradiction'],
  columns: { ...sentences, label: 'gold_label' },
  hub: { text: 'premise', pair: 'hypothesis' },
  metrics: metricSet('accuracy'),
  devs: [matched, mismatched],
  selectionFrom: 'dev',
  rows: { train: 392_702, dev: 9_815 },
  licence: "OANC's, CC BY 3.0 and CC BY-SA 3.0, by genre",
};

const entries: readonly GlueEntry[] = [
  {
    name: 'cola',
    description: 'Is a sentence acceptable English?',
    folder: 'CoLA',
    classes: ['unacceptable', 'acceptable'],
    columns: { text: 'sentence', label: 'label' },
    header: ['source', 'label', 'original_mark', 'sentence'],
    hub: { text: 'sentence' },
    metrics: metricSet('matthewsCorrelation'),
    devs: dev,
    selectionFrom: 'dev',
    rows: { train: 8_551, dev: 1_043 },
    licence: 'texts from linguistics publications, released for research',
  },
  {
    name: 'sst2',
    description: 'Is a sentence of a film review positive?',
    folder: 'SST-2',
    classes: ['negative', 'positive'],
    columns: { text: 'sentence', label: 'label' },
    hub: { text: 'sentence' },
    metrics: metricSet('accuracy'),
    devs: dev,
    selectionFrom: 'train',
    rows: { train: 67_349, dev: 872 },
    licence: 'none stated by its authors',
  },
  {
    name: 'mrpc',
    description: 'Do two sentences of the news say the same?',
    folder: 'MRPC',
    classes: ['not_equivalent', 'equivalent'],
    columns: { text: '#1 String', pair: '#2 String', label: 'Quality' },
    hub: sentences,
    metrics: metricSet('f1', 'accuracy'),
    devs: dev,
    selectionFrom: 'dev',
    rows: { train: 3_668, dev: 408 },
    licence: "Microsoft Research's data licence, for research",
  },
  {
    name: 'qqp',
    description: 'Do two questions ask the same?',
    folder: 'QQP',
    classes: ['not_duplicate', 'duplicate'],
    columns: { text: 'question1', pair: 'question2', label: 'is_duplicate' },
    skipsBrokenLines: true,
    hub: { text: 'question1', pair: 'question2' },
    metrics: metricSet('accuracy', 'f1'),
    devs: dev,
    selectionFrom: 'train',
    rows: { train: 363_846, dev: 40_430 },
    licence: "Quora's terms, non-commercial",
  },
  {
    name: 'stsb',
    description: 'How similar are two sentences, from 0 to 5?',
    folder: 'STS-B',
    classes: [],
    columns: { ...sentences, label: 'score' },
    hub: sentences,
    metrics: metricSet('pearson', 'spearman'),
    devs: dev,
    selectionFrom: 'dev',
    rows: { train: 5_749, dev: 1_500 },
    licence: 'scores CC BY-SA 4.0, texts under their own terms',
  },
  mnli,
  { ...mnli, name: 'mnli-mm', devs: [mismatched], rows: { ...mnli.rows, dev: 9_832 } },
  {
    name: 'qnli',
    description: 'Does a sentence answer a question?',
    folder: 'QNLI',
    classes: entailment,
    columns: { text: 'question', pair: 'sentence', label: 'label' },
    hub: { text: 'question', pair: 'sentence' },
    metrics: metricSet('accuracy'),
    devs: dev,
    selectionFrom: 'train',
    rows: { train: 104_743, dev: 5_463 },
    licence: 'CC BY-SA 4.0',
  },
  {
    name: 'rte',
    description: 'Does a text entail a sentence?',
    folder: 'RTE',
    classes: entailment,
    columns: { ...sentences, label: 'label' },
    hub: sentences,
    metrics: metricSet('accuracy'),
    devs: dev,
    selectionFrom: 'dev',
    rows: { train: 2_490, dev: 277 },
    licence: 'none stated by its authors',
  },
  {
    name: 'wnli',
    description: 'Does a sentence follow once its pronoun is resolved?',
    folder: 'WNLI',
    classes: ['not_entailment', 'entailment'],
    columns: { ...sentences, label: 'label' },
    hub: sentences,
    metrics: metricSet('accuracy'),
    devs: dev,
    selectionFrom: 'dev',
    rows: { train: 635, dev: 71 },
    licence: 'CC BY 4.0',
  },
];

/** The tasks of the GLUE suite (Wang et al., 2019), by name. */
export const glueTasks: ReadonlyMap<GlueName, GlueEntry> = new Map(entries.map((entry) => [entry.name, entry]));

/** Other names of tasks, in lower case and without punctuation. */
const aliases: Readonly<Record<string, GlueName>> = {
  mnlim: 'mnli',
  mnlimatched: 'mnli',
  mnlimm: 'mnli-mm',
  mnlimismatched: 'mnli-mm',
};

/**
 * Returns the standard name of a GLUE task (`SST-2`, `sst2`, `MNLI-mm`, `mnli_mismatched`); undefined for any other
 * name.
 */
export function glueName(name: string): GlueName | undefined {
  const plain = name.toLowerCase().replace(/[-_]/g, '');
  return (
    entries.find((entry) => entry.name === plain)?.name ?? (Object.hasOwn(aliases, plain) ? aliases[plain] : undefined)
  );
}

/** @throws ConfigError for a name that is not in the suite. */
function glueEntry(name: string): GlueEntry {
  const known = glueName(name);
  const entry = known && glueTasks.get(known);
  if (entry) return entry;
  const all = [...glueTasks.keys()].join(', ');
  throw new ConfigError(`expected a GLUE task, one of ${all}, got ${JSON.stringify(name)}`, 'task');
}
