/**
 * Draws rows on which to check the default settings of `peft-bench run`, from four tasks that no study uses:
 *
 *   npx tsx tools/studies/defaults-rows.ts SENTENCES QNLI data
 *
 * SENTENCES is a folder with `TREC.train.all`, `TREC.test.all`, `stsa.fine.train`, `stsa.fine.test` and
 * `rt-polarity.all`, QNLI one with GLUE's `dev.tsv`. The rows of a task are pooled, without duplicates, and shuffled.
 * Writes `train.jsonl` and `dev.jsonl` of each task into a subfolder of data that does not have the task's name, since
 * `--data` reads a folder named `trec` or `qnli` as the published files.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { createRng } from '../../packages/core/src/rng.js';

const [sentences = '.', qnli = '.', out = 'data'] = process.argv.slice(2);
const ROWS = { train: 1500, dev: 2000 };
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

/** Draws the rows of a task from its pool and writes them. */
function draw(task: string, pool: readonly Row[]): void {
  const rows = [...new Map(pool.map((row) => [JSON.stringify({ ...row, label: '' }), row])).values()];
  const order = Array.from(createRng(SEED).permutation(rows.length), (index) => rows[index] as Row);
  write(join(out, task, 'dev.jsonl'), order.slice(0, ROWS.dev));
  write(join(out, task, 'train.jsonl'), order.slice(ROWS.dev, ROWS.dev + ROWS.train));
}

function write(file: string, rows: readonly Row[]): void {
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
  process.stdout.write(`${file}: ${rows.length} rows\n`);
}

draw('questions', [...labelledLines('TREC.train.all', 'latin1'), ...labelledLines('TREC.test.all', 'latin1')]);
draw('stars', [...labelledLines('stsa.fine.train', 'utf8'), ...labelledLines('stsa.fine.test', 'utf8')]);
draw('reviews', labelledLines('rt-polarity.all', 'latin1'));
draw('answers', pairs());
