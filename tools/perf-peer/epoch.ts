/*
 * npx tsx --conditions @peftjs/source tools/perf-peer/epoch.ts --model DIR --data GLUE --task cola|sst2 [--dtype q8] [--threads 2]
 *
 * An epoch of LoRA on real text with peftjs, from the rows to the last step; epoch.py does the same with Hugging Face
 * PEFT. Each batch holds rows of similar length, padded to its longest; the order of batches depends on the seed.
 * Prints one JSON object.
 */
import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import { attach, diskStorage, train } from '@peftjs/core';
import { compiled } from '@peftjs/engine';
import { lora } from '@peftjs/lora';
import { fromPretrained, type WeightDtype } from '@peftjs/models';
import { encodeRows, glueTask, paddingShare, trainingData } from '@peftjs/tasks';

const { values: flags } = parseArgs({
  options: {
    model: { type: 'string' },
    data: { type: 'string' },
    task: { type: 'string' },
    dtype: { type: 'string', default: 'fp32' },
    threads: { type: 'string', default: String(availableParallelism()) },
  },
});
const { model: folder, data: glue, task: name } = flags;
if (!folder || !glue || !name) throw new RangeError('expected --model DIR --data DIR --task NAME');

const BATCH_SIZE = 32;
const MAX_TOKENS = 128;
const FIRST_ROWS = 10_000;

const task = await glueTask(name, glue, diskStorage());
const model = await fromPretrained(folder, { dtype: flags.dtype as WeightDtype, numLabels: 2 });
const started = performance.now();
const all = encodeRows(task.train, model.tokenizer, { maxTokens: MAX_TOKENS });
const rows = { ...all, rows: all.rows.slice(0, FIRST_ROWS) };
const data = trainingData(rows, { batchSize: BATCH_SIZE, seed: 1 });
const tokenised = performance.now();
let steps = 0;
const { compileMs } = await train(
  attach(model, lora({ r: 8, loraAlpha: 16, targetModules: ['query', 'value'] }), { seed: 1 }),
  data,
  {
    executor: compiled({ threads: Number(flags.threads) }),
    epochs: 1,
    learningRate: 1e-3,
    onStep: () => steps++,
  },
);
const ended = performance.now();
process.stdout.write(
  `${JSON.stringify({
    task: name,
    steps,
    rows: rows.rows.length,
    epochSeconds: (ended - started) / 1000,
    tokeniseSeconds: (tokenised - started) / 1000,
    compileSeconds: compileMs / 1000,
    paddingShare: paddingShare(data.epoch(0)),
    peakRssBytes: process.resourceUsage().maxRSS * 1024,
  })}\n`,
);
