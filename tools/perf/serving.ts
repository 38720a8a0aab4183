/*
 * npx tsx --conditions @peftjs/source tools/perf/serving.ts --model FOLDER [--requests 256] [--singles 200] [--rounds 5]
 *     [--threads 2] [--batch 16] [--words 99] [--adapters 1] [--dtype fp32] [--worker]
 *
 * Measures what `shareBatches` does to a classifier that answers single texts, with and without it in turn: the rate of
 * many requests at once, the processor time that each takes, and the time of requests one after another. The texts are
 * sentences of reviews with up to `words` words; the adapters are LoRA with random factors, which the requests use in
 * turn. Also compares the labels and scores of both.
 */
import { attach, memoryStorage, savePretrained } from '@peftjs/core';
import { compiled } from '@peftjs/engine';
import { lora } from '@peftjs/lora';
import { fromPretrained, type WeightDtype } from '@peftjs/models';
import { pipeline, type LabelScore, type TextClassifier } from '@peftjs/pipelines';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { availableParallelism, loadavg } from 'node:os';
import { parseArgs } from 'node:util';
import { median, quantile } from 'simple-statistics';

const { values: flags } = parseArgs({
  options: {
    model: { type: 'string' },
    requests: { type: 'string', default: '256' },
    singles: { type: 'string', default: '200' },
    rounds: { type: 'string', default: '5' },
    threads: { type: 'string', default: String(availableParallelism()) },
    batch: { type: 'string', default: '16' },
    words: { type: 'string', default: '99' },
    adapters: { type: 'string', default: '1' },
    dtype: { type: 'string', default: 'fp32' },
    worker: { type: 'boolean', default: false },
  },
});
if (!flags.model) throw new RangeError('expected --model FOLDER');
const WARM_UP = 20;

const reviews = createRequire(import.meta.url).resolve('sentiment/test/fixtures/yelp.json');
const texts = (JSON.parse(await readFile(reviews, 'utf8')) as { text: string }[])
  .map(({ text }) => text)
  .filter((text) => text !== '' && text.split(' ').length <= Number(flags.words));
const dtype = flags.dtype as WeightDtype;
const model = await fromPretrained(flags.model, { dtype, labels: ['negative', 'positive'] });
const names = Array.from({ length: Number(flags.adapters) }, (_, index) => `a${index}`);
const storage = memoryStorage();
for (const [seed, name] of names.entries()) {
  await savePretrained(attach(model, lora({ r: 8, initLoraWeights: false }), { seed }), name, { storage });
}
const pipelines = [await opened(false), await opened(true)];
const rates: number[][] = [[], []];
const work: number[][] = [[], []];
const times: number[][] = [[], []];
const answers: LabelScore[][] = [];
for (const classify of pipelines) await oneByOne(classify, WARM_UP);
for (let round = 0; round < Number(flags.rounds); round++) {
  for (const [index, classify] of pipelines.entries()) {
    const { rate, work: cost, found } = await atOnce(classify);
    const own = await oneByOne(classify, Number(flags.singles));
    rates[index]?.push(rate);
    work[index]?.push(cost);
    times[index]?.push(...own);
    answers[index] = found;
    console.log(
      `${index === 0 ? 'alone ' : 'shared'}  ${rate.toFixed(1)} texts/s at once; one by one ${shown(own)}; load ${loadavg()[0]?.toFixed(1)}`,
    );
  }
}
for (const classify of pipelines) await classify.dispose();
report();

async function opened(shareBatches: boolean): Promise<TextClassifier> {
  const [first = '', ...others] = names;
  return pipeline('text-classification', first, {
    adapters: Object.fromEntries(others.map((name) => [name, name])),
    model,
    storage,
    methods: [lora],
    executor: compiled({ threads: Number(flags.threads), worker: flags.worker }),
    batchSize: Number(flags.batch),
    shareBatches,
  });
}

/** Returns the options of a request. */
function optionsOf(request: number) {
  const name = names[request % names.length];
  return { adapter: name === names[0] ? 'default' : (name as string) }; // the source's own adapter is 'default'
}

/** Answers all requests: texts per second, milliseconds of the processor for each, and the answers. */
async function atOnce(classify: TextClassifier): Promise<{ rate: number; work: number; found: LabelScore[] }> {
  const requests = Number(flags.requests);
  const [start, before] = [performance.now(), process.cpuUsage()];
  const found = await Promise.all(
    Array.from({ length: requests }, (_, request) =>
      classify(texts[request % texts.length] as string, optionsOf(request)),
    ),
  );
  const seconds = (performance.now() - start) / 1000;
  const { user, system } = process.cpuUsage(before);
  return { rate: requests / seconds, work: (user + system) / 1000 / requests, found: found.flat() };
}

/** Returns the milliseconds of each request. */
async function oneByOne(classify: TextClassifier, requests: number): Promise<number[]> {
  const milliseconds: number[] = [];
  for (let request = 0; request < requests; request++) {
    const start = performance.now();
    await classify(texts[request % texts.length] as string, optionsOf(request));
    milliseconds.push(performance.now() - start);
  }
  return milliseconds;
}

function shown(milliseconds: readonly number[]): string {
  const [p50, p99] = [0.5, 0.99].map((share) => quantile([...milliseconds], share).toFixed(1));
  return `p50 ${p50} ms, p99 ${p99} ms`;
}

function report(): void {
  const [alone, shared] = rates as [number[], number[]];
  const ratios = alone.map((rate, round) => (shared[round] as number) / rate);
  console.log(`\n${flags.requests} at once, ${flags.rounds} rounds: ${medians(rates)} texts/s`);
  console.log(
    `  ${median(ratios).toFixed(2)} times, in single rounds ${ratios.map((ratio) => ratio.toFixed(1)).join(', ')}`,
  );
  console.log(`processor time per text: ${medians(work)} ms`);
  console.log(`one by one: ${times.map(shown).join(' alone, ')} shared`);
  const [before = [], after = []] = answers;
  const differences = before.map(({ score }, request) => Math.abs(score - (after[request]?.score ?? NaN)));
  const isSame = before.every(({ label }, request) => label === after[request]?.label);
  console.log(`labels ${isSame ? 'equal' : 'DIFFER'}, scores within ${Math.max(...differences).toExponential(1)}`);
}

function medians(values: readonly (readonly number[])[]): string {
  return values
    .map((own) => median([...own]).toFixed(1))
    .join(' alone, ')
    .concat(' shared');
}
