/*
 * npx tsx --conditions @peftjs/source tools/perf-peer/predict.ts --model DIR --transformers-js DIR [--rounds 3] [--threads 2]
 *
 * Classifies texts with `predict` and `pipeline`, with merged and unmerged LoRA, and with transformers.js on the merged
 * model's ONNX export, all in every round. Prints the median time of one text after the first call, tokenisation
 * included, and texts per second in batches of 32 of different lengths. Ends with the largest difference of a score.
 *
 *   npm install --ignore-scripts --prefix DIR @huggingface/transformers@4.3.2
 */
import {
  attach,
  diskStorage,
  mergeAndUnload,
  PeftError,
  predict,
  savePretrained,
  type Model,
  type PeftModel,
} from '@peftjs/core';
import { compiled, exportOnnx } from '@peftjs/engine';
import { lora } from '@peftjs/lora';
import { fromPretrained, saveMerged, saveOnnx } from '@peftjs/models';
import { pipeline, type LabelScore } from '@peftjs/pipelines';
import { createDataSet, encodeRows, evaluationData } from '@peftjs/tasks';
import { mkdtemp, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { availableParallelism, cpus, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { median } from 'simple-statistics';

const { values: flags } = parseArgs({
  options: {
    model: { type: 'string' },
    'transformers-js': { type: 'string' },
    rounds: { type: 'string', default: '3' },
    threads: { type: 'string', default: String(availableParallelism()) },
  },
});
if (!flags.model || !flags['transformers-js']) throw new RangeError('expected --model DIR --transformers-js DIR');

/** The part of @huggingface/transformers used here. */
interface TransformersJs {
  readonly env: { allowRemoteModels: boolean; localModelPath: string };
  pipeline(
    task: 'text-classification',
    model: string,
    options: { readonly session_options: { readonly intraOpNumThreads: number } },
  ): Promise<
    <T extends string | string[]>(
      texts: T,
      options?: { readonly top_k: null },
    ) => Promise<T extends string ? LabelScore[] : LabelScore[][]>
  >;
}

const TEXT = 'The soup was cold, the waiter was rude, and the bill was wrong.';
const data = await createDataSet({
  name: 'one text',
  kind: 'classification',
  classes: ['no', 'yes'],
  rows: [{ text: TEXT, label: 0 }],
});
const CALLS = 100;

const WORDS = TEXT.split(' ');
/** Texts of 3 to 34 words, in mixed order. */
const TEXTS = Array.from({ length: 32 }, (_, text) =>
  Array.from({ length: 3 + ((text * 13) % 32) }, (_, word) => WORDS[(text * 7 + word) % WORDS.length]).join(' '),
);
const BATCHES = 12;
const threads = Number(flags.threads);

const folder = await mkdtemp(join(tmpdir(), 'peftjs-predict-'));
try {
  const model = await fromPretrained(flags.model, { labels: ['no', 'yes'] });
  const peft = attach(model, lora({ r: 8, initLoraWeights: false }), { seed: 1 });
  const merged = mergeAndUnload(peft);
  await savePretrained(peft, join(folder, 'adapter'));
  await saveMerged(merged, join(folder, 'folder'), model);
  await saveOnnx(merged, await exportOnnx(merged), join(folder, 'merged'), { ...model, storage: diskStorage() });
  const library = createRequire(join(flags['transformers-js'], 'package.json'))(
    '@huggingface/transformers',
  ) as TransformersJs;
  library.env.allowRemoteModels = false;
  library.env.localModelPath = folder;
  const theirs = await library.pipeline('text-classification', 'merged', {
    session_options: { intraOpNumThreads: threads },
  });
  const executor = compiled({ threads });
  const ours = (network: PeftModel | Model) => async (): Promise<unknown> => {
    const rows = encodeRows(data, model.tokenizer, { maxTokens: 128 });
    return predict(network, evaluationData(rows, { batchSize: 1 }).batches, { executor });
  };
  const made = { methods: [lora], executor };
  const classifiers = {
    merged: await pipeline('text-classification', join(folder, 'folder'), made),
    LoRA: await pipeline('text-classification', join(folder, 'adapter'), made),
  };
  console.log(`${cpus()[0]?.model ?? 'unknown'}, ${threads} threads`);
  for (let round = 0; round < Number(flags.rounds); round++) {
    say('one text', 'ms', {
      'transformers.js': await medianOf(CALLS, () => theirs(TEXT)),
      'pipeline, merged': await medianOf(CALLS, () => classifiers.merged(TEXT)),
      'pipeline, LoRA': await medianOf(CALLS, () => classifiers.LoRA(TEXT)),
      'predict, merged': await medianOf(CALLS, ours(merged)),
      'predict, LoRA': await medianOf(CALLS, ours(peft)),
    });
    const perSecond = (ms: number): number => (1000 * TEXTS.length) / ms;
    say('batches of 32', 'texts/s', {
      'transformers.js': perSecond(await medianOf(BATCHES, () => theirs(TEXTS))),
      'pipeline, merged': perSecond(await medianOf(BATCHES, () => classifiers.merged(TEXTS))),
      'pipeline, LoRA': perSecond(await medianOf(BATCHES, () => classifiers.LoRA(TEXTS))),
    });
  }
  const [own, known] = [await classifiers.merged(TEXTS, { topK: null }), await theirs(TEXTS, { top_k: null })];
  const distances = known.flatMap((scores, text) =>
    scores.map(({ label, score }, place) => {
      const mine = own[text]?.[place];
      if (mine?.label !== label) {
        throw new PeftError('PEFT_PERF', `'${TEXTS[text]}': expected the label ${label}, got ${mine?.label}`);
      }
      return Math.abs(mine.score - score);
    }),
  );
  console.log(`labels are equal; scores differ by at most ${Math.max(...distances).toExponential(1)}`);
} finally {
  await rm(folder, { recursive: true });
}

/** Prints measurements, each also as a multiple of the first one. */
function say(what: string, unit: string, measured: Readonly<Record<string, number>>): void {
  const [reference = NaN] = Object.values(measured);
  const shown = Object.entries(measured).map(
    ([name, value]) => `${name} ${value.toFixed(2)} ${unit} (${(value / reference).toFixed(2)}x)`,
  );
  console.log(`load ${loadavg()[0]?.toFixed(1)}, ${what}: ${shown.join(', ')}`);
}

/** Returns the median milliseconds of a call, without the first one. */
async function medianOf(calls: number, call: () => Promise<unknown>): Promise<number> {
  const times: number[] = [];
  await call();
  for (let index = 0; index < calls; index++) {
    const started = performance.now();
    await call();
    times.push(performance.now() - started);
  }
  return median(times);
}
