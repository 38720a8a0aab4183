/**
 * Draws rows on which to check the default settings of `peft-bench run`, from four tasks that no study uses:
 *
 *   npx tsx tools/studies/defaults-rows.ts SENTENCES QNLI data
 *
 * SENTENCES is a folder with `TREC.train.all`, `TREC.test.all`, `stsa.fine.train`, `stsa.fine.dev` and
 * `rt-polarity.all`, QNLI one with GLUE's `dev.tsv`. Writes `train.jsonl` and `dev.jsonl` of each task into a subfolder
 * of data. It does not have the task's name: `--data` reads a folder named `trec` or `qnli` as the published files.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createRng } from '../../packages/core/src/rng.js';

const [sentences = '.', qnli = '.', out = 'data'] = process.argv.slice(2);
const ROWS = { train: 1500, dev: 500 };
const SEED = 7;

type Row = Readonly<Record<'text' | 'label', string>> | Readonly<Record<'text_a' | 'text_b' | 'label', string>>;

/** Reads lines of `number text`. The number becomes the name of a class: numbers as labels would mean regression. */
function labelledLines(file: string, encoding: BufferEncoding): Row[] {
  return linesOf(join(sentences, file), encoding).map((line) => {
    const [head = '', ...words] = line.split(' ');
    return { text: words.join(' ').trim(), label: `class ${head}` };
  });
}

/** Reads the pairs of QNLI: index, question, sentence and label, with tabs between them. */
function pairs(): Row[] {
  const [, ...lines] = linesOf(join(qnli, 'dev.tsv'), 'utf8');
  return lines.map((line) => {
    const [, text_a = '', text_b = '', label = ''] = line.split('\t');
    return { text_a, text_b, label: label.trim() };
  });
}

function linesOf(path: string, encoding: BufferEncoding): string[] {
  return readFileSync(path, encoding)
    .split('\n')
    .filter((line) => line.trim() !== '');
}

function shuffled(rows: readonly Row[]): Row[] {
  return Array.from(createRng(SEED).permutation(rows.length), (index) => rows[index] as Row);
}

/** Splits the rows of a single file. */
function trainAndDev(rows: readonly Row[]): [train: Row[], dev: Row[]] {
  const all = shuffled(rows);
  return [all.slice(ROWS.dev), all.slice(0, ROWS.dev)];
}

function write(task: string, [train, dev]: readonly [train: Row[], dev: Row[]]): void {
  mkdirSync(join(out, task), { recursive: true });
  for (const [split, rows] of Object.entries({ train: train.slice(0, ROWS.train), dev: dev.slice(0, ROWS.dev) })) {
    writeFileSync(join(out, task, `${split}.jsonl`), rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
    process.stdout.write(`${join(out, task, split)}.jsonl: ${rows.length} rows\n`);
  }
}

write('questions', [
  shuffled(labelledLines('TREC.train.all', 'latin1')),
  shuffled(labelledLines('TREC.test.all', 'latin1')),
]);
write('stars', [shuffled(labelledLines('stsa.fine.train', 'utf8')), shuffled(labelledLines('stsa.fine.dev', 'utf8'))]);
write('reviews', trainAndDev(labelledLines('rt-polarity.all', 'latin1')));
write('answers', trainAndDev(pairs()));
