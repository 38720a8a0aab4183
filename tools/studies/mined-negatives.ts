/**
 * Do mined negatives improve retrieval over those in the batch? Trains LoRA on the pairs of `reverse-dictionary.ts`:
 *
 *   npx tsx --conditions @peftjs/source tools/studies/mined-negatives.ts --model FOLDER --data data --out results.json
 *       [--seeds 6] [--rows 3000] [--epochs 2] [--threads 2]
 *
 * The arms differ in the negatives of a row: none besides those of the batch, a random word of the file, or a mined
 * one. The random one tells whether more negatives help, or harder ones. All train on the same rows for the same number
 * of steps. Writes the metrics of each training after it, leaves out those that the file already has, and prints means
 * with 95 % intervals over the seeds.
 */
import { attach, diskStorage, evaluate, train } from '@peftjs/core';
import { createRng } from '@peftjs/core/method';
import { compiled } from '@peftjs/engine';
import { lora } from '@peftjs/lora';
import { fromPretrained } from '@peftjs/models';
import { pipeline } from '@peftjs/pipelines';
import {
  createDataSet,
  encodeRows,
  evaluationData,
  mineHardNegatives,
  readTask,
  sliceRows,
  trainingData,
  type DataSet,
} from '@peftjs/tasks';
import { readFile, writeFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import { meanInterval } from '../compare-peft/statistics.js';

const { values: flags } = parseArgs({
  options: {
    model: { type: 'string' },
    data: { type: 'string', default: 'data' },
    out: { type: 'string', default: 'mined-negatives.json' },
    seeds: { type: 'string', default: '6' },
    rows: { type: 'string', default: '3000' },
    epochs: { type: 'string', default: '2' },
    threads: { type: 'string', default: String(availableParallelism()) },
  },
});
if (!flags.model) throw new RangeError('expected --model FOLDER');
const MAX_TOKENS = 48;
const METRICS = ['recallAt1', 'recallAt10', 'mrr', 'ndcgAt10'] as const;
/** Far enough for rows whose right word the model ranks low: a negative is less similar than it. */
const MINING = { numNegatives: 1, relativeMargin: 0.05, rangeMax: 500 } as const;

type Scores = Readonly<Record<string, number>>;
/** The scores of each arm by seed. */
type Results = Record<string, Record<number, Scores>>;

const seeds = Array.from({ length: Number(flags.seeds) }, (_, index) => index + 1);

const executor = compiled({ threads: Number(flags.threads) });
const model = await fromPretrained(flags.model, { task: 'feature-extraction', dtype: 'q8' });
const task = await readTask({
  train: `${flags.data}/train.tsv`,
  dev: `${flags.data}/dev.tsv`,
  storage: diskStorage(),
  kind: 'pairs',
});
const embed = await pipeline('feature-extraction', model, { methods: [], executor, maxTokens: MAX_TOKENS });
const rows = await sliceRows(task.train, Number(flags.rows), 1);
const mined = await mineHardNegatives(rows, { embed, ...MINING });
await embed.dispose();
const arms: Readonly<Record<string, DataSet>> = {
  'in the batch': await withNegatives((texts) => texts.slice(0, 2), 'pairs'),
  'a random one': await withNegatives(
    ([anchor = '', positive = ''], row) => [anchor, positive, randomWord(row)],
    'triplets',
  ),
  'a mined one': mined,
};
const encode = (data: DataSet) => encodeRows(data, model.tokenizer, { maxTokens: MAX_TOKENS });
const heldOut = evaluationData(encode(task.dev), { batchSize: 32 });
const base = await evaluate(model, heldOut, { executor });
console.log(`${mined.rows.length} of ${rows.rows.length} rows have a mined negative; the original model`, base);
console.log(
  mined.rows
    .slice(0, 5)
    .map(({ texts }) => texts.join(' | '))
    .join('\n'),
);
const results = await readResults(flags.out);
for (const seed of seeds) {
  for (const [arm, data] of Object.entries(arms)) {
    const own = (results[arm] ??= {});
    if (own[seed]) continue;
    own[seed] = await trained(data, seed);
    console.log(seed, arm, own[seed]);
    const made = { rows: mined.rows.length, epochs: Number(flags.epochs), mining: MINING, base, results };
    await writeFile(flags.out, JSON.stringify(made, undefined, 1));
  }
}
report();

async function readResults(path: string): Promise<Results> {
  const text = await readFile(path, 'utf8').catch(() => '{ "results": {} }');
  return (JSON.parse(text) as { results: Results }).results;
}

/** Returns the rows that also have a mined negative, with the texts that `textsOf` makes of each. */
function withNegatives(
  textsOf: (texts: readonly string[], row: number) => readonly string[],
  kind: 'pairs' | 'triplets',
) {
  const made = mined.rows.map(({ texts }, row) => ({ texts: textsOf(texts, row) }));
  return createDataSet({ name: kind, kind, classes: [], rows: made });
}

/** Returns the word of another row. */
function randomWord(row: number): string {
  const { length } = mined.rows;
  const other = (row + 1 + createRng(row).integer(length - 1)) % length;
  return mined.rows[other]?.texts[1] as string;
}

async function trained(data: DataSet, seed: number): Promise<Scores> {
  const peft = attach(model, lora({ r: 4 }), { seed });
  await train(peft, trainingData(encode(data), { batchSize: 32, seed }), {
    executor,
    epochs: Number(flags.epochs),
    learningRate: 2e-3,
  });
  return evaluate(peft, heldOut, { executor });
}

function report(): void {
  const arm = (name: string, metric: string): number[] =>
    seeds.map((seed) => results[name]?.[seed]?.[metric] as number);
  for (const metric of METRICS) {
    const means = Object.keys(arms).map((name) => `${name} ${shown(arm(name, metric))}`);
    console.log(`${metric}: original ${base[metric]?.toFixed(3)}; ${means.join('; ')}`);
    const mined = arm('a mined one', metric);
    for (const name of ['in the batch', 'a random one']) {
      const others = arm(name, metric);
      console.log(
        `  a mined one minus ${name}: ${shown(mined.map((value, seed) => value - (others[seed] as number)))}`,
      );
    }
  }
}

function shown(values: readonly number[]): string {
  const { mean, low, high } = meanInterval(values);
  return `${mean.toFixed(3)} [${low.toFixed(3)}, ${high.toFixed(3)}]`;
}
