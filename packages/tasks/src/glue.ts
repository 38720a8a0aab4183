import type { Storage } from '@peftjs/core';
import { ConfigError } from '@peftjs/core/method';
import type { LabelKind } from './data-set.js';
import { metricSet, type MetricSet, type Task } from './task.js';
import {
  inFolder,
  onHub,
  type Published,
  type PublishedColumns,
  publishedTask,
  type PublishedTaskOptions,
  type ReadHubFile,
} from './published.js';
import { decodeText, parseTsv } from './table.js';

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
  return publishedTask(publishedOf(glueEntry(name)), inFolder(folder, storage), options);
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
  return publishedTask(publishedOf(glueEntry(name)), onHub(readFile), options);
}

function publishedOf(entry: GlueEntry): Published {
  const { columns: own, header: columns, skipsBrokenLines } = entry;
  return {
    ...entry,
    sets: ['train', ...entry.devs],
    pathsOf: (set) => pathsOf(entry, set),
    hub: { ...entry.hub, label: 'label' },
    own,
    parse: (bytes, path) => parseTsv(decodeText(bytes, path), path, { columns, skipsBrokenLines }),
  };
}

/**
 * The possible paths of a set. MRPC's files are called `.raw.tsv` if they were made from the original, untokenised
 * sentences.
 */
function pathsOf({ folder, name }: GlueEntry, set: string): string[] {
  const files = [`${set}.tsv`, `${set}.raw.tsv`];
  const configuration = folder === 'MNLI' ? 'mnli' : name;
  const onHub = `${configuration}/${set.replace('dev', 'validation')}-00000-of-00001.parquet`;
  return [...files.map((each) => `${folder}/${each}`), ...files, onHub];
}

/** The names of the GLUE tasks on the hub, and `mnli-mm`: MNLI, reported on the mismatched development set. */
export type GlueName = 'cola' | 'sst2' | 'mrpc' | 'qqp' | 'stsb' | 'mnli' | 'mnli-mm' | 'qnli' | 'rte' | 'wnli';

/** A task of the GLUE suite: its metrics and its files. */
export interface GlueEntry {
  /** The name of the task. */
  readonly name: GlueName;
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
  /** The development sets by the names of their TSV files, the reported one first. */
  readonly devs: readonly [string, ...string[]];
  /** The set from which the half-dev split takes its selection rows. */
  readonly selectionFrom: 'dev' | 'train';
  /** The number of published rows. */
  readonly rows: { readonly train: number; readonly dev: number };
  /** The licence of the data. */
  readonly licence: string;
}

/** An entry, which may leave out what it shares with most others. */
type Stated = Omit<GlueEntry, 'hub' | 'metrics' | 'devs' | 'selectionFrom'> & Partial<GlueEntry>;

function completed(entry: Stated): GlueEntry {
  return { hub: entry.columns, metrics: metricSet('accuracy'), devs: ['dev'], selectionFrom: 'dev', ...entry };
}

const sentences = { text: 'sentence1', pair: 'sentence2' };
const entailment = ['entailment', 'not_entailment'];

const mnli: Stated = {
  name: 'mnli',
  folder: 'MNLI',
  classes: ['entailment', 'neutral', 'contradiction'],
  columns: { ...sentences, label: 'gold_label' },
  hub: { text: 'premise', pair: 'hypothesis' },
  devs: ['dev_matched', 'dev_mismatched'],
  rows: { train: 392_702, dev: 9_815 },
  licence: "OANC's, CC BY 3.0 and CC BY-SA 3.0, by genre",
};

const entries: readonly Stated[] = [
  {
    name: 'cola',
    folder: 'CoLA',
    classes: ['unacceptable', 'acceptable'],
    columns: { text: 'sentence', label: 'label' },
    header: ['source', 'label', 'original_mark', 'sentence'],
    metrics: metricSet('matthewsCorrelation'),
    rows: { train: 8_551, dev: 1_043 },
    licence: 'texts from linguistics publications, released for research',
  },
  {
    name: 'sst2',
    folder: 'SST-2',
    classes: ['negative', 'positive'],
    columns: { text: 'sentence', label: 'label' },
    selectionFrom: 'train',
    rows: { train: 67_349, dev: 872 },
    licence: 'none stated by its authors',
  },
  {
    name: 'mrpc',
    folder: 'MRPC',
    classes: ['not_equivalent', 'equivalent'],
    columns: { text: '#1 String', pair: '#2 String', label: 'Quality' },
    hub: sentences,
    metrics: metricSet('f1', 'accuracy'),
    rows: { train: 3_668, dev: 408 },
    licence: "Microsoft Research's data licence, for research",
  },
  {
    name: 'qqp',
    folder: 'QQP',
    classes: ['not_duplicate', 'duplicate'],
    columns: { text: 'question1', pair: 'question2', label: 'is_duplicate' },
    skipsBrokenLines: true,
    metrics: metricSet('accuracy', 'f1'),
    selectionFrom: 'train',
    rows: { train: 363_846, dev: 40_430 },
    licence: "Quora's terms, non-commercial",
  },
  {
    name: 'stsb',
    folder: 'STS-B',
    classes: [],
    columns: { ...sentences, label: 'score' },
    metrics: metricSet('pearson', 'spearman'),
    rows: { train: 5_749, dev: 1_500 },
    licence: 'scores CC BY-SA 4.0, texts under their own terms',
  },
  mnli,
  { ...mnli, name: 'mnli-mm', devs: ['dev_mismatched'], rows: { ...mnli.rows, dev: 9_832 } },
  {
    name: 'qnli',
    folder: 'QNLI',
    classes: entailment,
    columns: { text: 'question', pair: 'sentence', label: 'label' },
    selectionFrom: 'train',
    rows: { train: 104_743, dev: 5_463 },
    licence: 'CC BY-SA 4.0',
  },
  {
    name: 'rte',
    folder: 'RTE',
    classes: entailment,
    columns: { ...sentences, label: 'label' },
    rows: { train: 2_490, dev: 277 },
    licence: 'none stated by its authors',
  },
  {
    name: 'wnli',
    folder: 'WNLI',
    classes: ['not_entailment', 'entailment'],
    columns: { ...sentences, label: 'label' },
    rows: { train: 635, dev: 71 },
    licence: 'CC BY 4.0',
  },
];

/** The tasks of the GLUE suite (Wang et al., 2019), by name. */
export const glueTasks: ReadonlyMap<GlueName, GlueEntry> = new Map(
  entries.map((entry) => [entry.name, completed(entry)]),
);

/**
 * Returns the standard name of a GLUE task (`SST-2`, `sst2`, `MNLI-mm`, `mnli_mismatched`); undefined for any other
 * name.
 */
export function glueName(name: string): GlueName | undefined {
  const plain = name.toLowerCase().replace(/[-_]/g, '');
  const standard = plain.replace(/^mnlim(atched)?$/, 'mnli').replace(/^mnlim(m|ismatched)$/, 'mnli-mm');
  return entries.find((entry) => entry.name === standard)?.name;
}

/** @throws ConfigError for a name that is not in the suite. */
function glueEntry(name: string): GlueEntry {
  const known = glueName(name);
  const entry = known && glueTasks.get(known);
  if (entry) return entry;
  const all = [...glueTasks.keys()].join(', ');
  throw new ConfigError(`expected a GLUE task, one of ${all}, got ${JSON.stringify(name)}`, 'task');
}
