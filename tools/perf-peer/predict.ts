/*
 * npx tsx --conditions @peftjs/source tools/perf-peer/predict.ts --model DIR --transformers-js DIR [--rounds 3] [--threads 2]
 *
 * One text, classified by `predict` with an unmerged LoRA, with the LoRA merged, and by transformers.js on the merged model's ONNX
 * export: the median of the calls after the first, tokenisation included, side by side in every round.
 *
 *   npm install --ignore-scripts --prefix DIR @huggingface/transformers@4.3.1
 */
import { attach, diskStorage, mergeAndUnload, predict, type Model, type PeftModel } from '@peftjs/core';
import { compiled, exportOnnx } from '@peftjs/engine';
import { lora } from '@peftjs/lora';
import { fromPretrained, saveOnnx } from '@peftjs/models';
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

/** What is used of @huggingface/transformers. */
interface TransformersJs {
  readonly env: { allowRemoteModels: boolean; localModelPath: string };
  pipeline(
    task: 'text-classification',
    model: string,
    options: { readonly session_options: { readonly intraOpNumThreads: number } },
  ): Promise<(text: string) => Promise<unknown>>;
}

const TEXT = 'The soup was cold, the waiter was rude, and the bill was wrong.';
const data = await createDataSet({
  name: 'one text',
  kind: 'classification',
  classes: ['no', 'yes'],
  rows: [{ text: TEXT, label: 0 }],
});
const CALLS = 100;
const threads = Number(flags.threads);

const folder = await mkdtemp(join(tmpdir(), 'peftjs-predict-'));
try {
  const model = await fromPretrained(flags.model, { numLabels: 2 });
  const peft = attach(model, lora({ r: 8 }));
  const merged = mergeAndUnload(peft);
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
  console.log(`${cpus()[0]?.model ?? 'unknown'}, ${threads} threads`);
  for (let round = 0; round < Number(flags.rounds); round++) {
    const times = {
      'transformers.js': await medianOf(() => theirs(TEXT)),
      'predict, merged': await medianOf(ours(merged)),
      'predict, LoRA': await medianOf(ours(peft)),
    };
    const reference = times['transformers.js'];
    const shown = Object.entries(times).map(
      ([name, ms]) => `${name} ${ms.toFixed(2)} ms (${(ms / reference).toFixed(2)}x)`,
    );
    console.log(`load ${loadavg()[0]?.toFixed(1)}: ${shown.join(', ')}`);
  }
} finally {
  await rm(folder, { recursive: true });
}

/** Milliseconds of a call, the first one left out. */
async function medianOf(call: () => Promise<unknown>): Promise<number> {
  const times: number[] = [];
  await call();
  for (let index = 0; index < CALLS; index++) {
    const started = performance.now();
    await call();
    times.push(performance.now() - started);
  }
  return median(times);
}
