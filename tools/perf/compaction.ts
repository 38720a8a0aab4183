/*
 * npx tsx --conditions @peftjs/source tools/perf/compaction.ts --model DIR --data GLUE [--task sst2] [--rows 2000] [--epochs 3]
 *     [--seeds 3] [--threads 2] [--results FILE]
 *
 * Measures what compaction of pruned ranks saves: SoRA on all linear modules, from 8 ranks to about half, with and
 * without compaction, and AdaLoRA and LoRA from the same number. Writes one JSON object: the metric, ranks and seconds
 * of each run, and the step time of each trained adapter on a batch of one shape. The adapters' share of a step is the
 * difference from the step with one rank on the lowest module, which has the same backward pass through the frozen
 * network.
 */
import { writeFile } from 'node:fs/promises';
import { availableParallelism, loadavg } from 'node:os';
import { parseArgs } from 'node:util';
import {
  attach,
  diskStorage,
  evaluate,
  train,
  type EvaluationData,
  type PeftModel,
  type TrainingData,
} from '@peftjs/core';
import { adalora } from '@peftjs/adalora';
import { compiled } from '@peftjs/engine';
import { lora } from '@peftjs/lora';
import { fromPretrained, type PretrainedModel } from '@peftjs/models';
import { sora } from '@peftjs/sora';
import { encodeRows, evaluationData, glueTask, sliceRows, trainingData } from '@peftjs/tasks';
import { mean, median } from 'simple-statistics';
import { timeSteps } from './measure.js';

const { values: flags } = parseArgs({
  options: {
    model: { type: 'string' },
    data: { type: 'string' },
    task: { type: 'string', default: 'sst2' },
    rows: { type: 'string', default: '2000' },
    epochs: { type: 'string', default: '3' },
    seeds: { type: 'string', default: '3' },
    threads: { type: 'string', default: String(availableParallelism()) },
    results: { type: 'string' },
  },
});
if (!flags.model || !flags.data) throw new RangeError('expected --model DIR --data DIR');

const RANKS = 8;
const LEARNING_RATE = 1e-3;
/**
 * Gates have a higher learning rate than the factors, as in the paper's scripts; otherwise few would get from N(0, 1)
 * to zero.
 */
const GATE_LEARNING_RATE = 1e-2;
const SPARSE_LAMBDA = 0.9;
const BATCH_SIZE = 32;
const TIMED = { batch: [16, 64], steps: 25 } as const;

const everywhere = { targetModules: 'all-linear', loraAlpha: 16 } as const;
const sparse = { ...everywhere, r: RANKS, sparseLambda: SPARSE_LAMBDA };
const adapters = {
  'sora, compacted': (seed: number) => attach(model, sora({ ...sparse, compactEvery: 20 }), { seed }),
  sora: (seed: number) => attach(model, sora(sparse), { seed }),
  adalora: (seed: number) => attach(model, adalora({ ...everywhere, initR: RANKS, targetR: RANKS / 2 }), { seed }),
  lora: (seed: number) => attach(model, lora({ ...everywhere, r: RANKS }), { seed }),
} as const;
type Name = keyof typeof adapters;

const threads = Number(flags.threads);
const model = await fromPretrained(flags.model, { numLabels: 2 });
const data = await textOf(model, flags.data);
const results: SeedResult[] = [];
for (let seed = 1; seed <= Number(flags.seeds); seed++) {
  const floor = await stepOf(attach(model, lora({ r: 1, targetModules: [lowestModule(model)] }), { seed }));
  const runs: RunResult[] = [];
  for (const name of Object.keys(adapters) as Name[]) runs.push(await oneRun(name, seed, floor));
  results.push({ seed, load: loadavg()[0] ?? NaN, floorStepMs: floor, runs });
}
const summary = (Object.keys(adapters) as Name[]).map((name) => {
  const of = (value: (run: RunResult) => number): number =>
    mean(results.flatMap(({ runs }) => runs.filter((run) => run.name === name).map(value)));
  return {
    name,
    metric: of(({ metric }) => metric),
    ranks: of(({ ranks }) => ranks),
    seconds: of(({ seconds }) => seconds),
    compileSeconds: of(({ compileSeconds }) => compileSeconds),
    stepMs: of(({ stepMs }) => stepMs),
    adapterMs: of(({ adapterMs }) => adapterMs),
  };
});
const text = `${JSON.stringify({ task: flags.task, rows: Number(flags.rows), threads, summary, results }, null, 2)}\n`;
if (flags.results) await writeFile(flags.results, text);
else process.stdout.write(text);

interface SeedResult {
  readonly seed: number;
  /** Load average of the machine after the floor and all runs of the seed. */
  readonly load: number;
  /** The step time with one rank on the lowest module, in milliseconds. */
  readonly floorStepMs: number;
  readonly runs: readonly RunResult[];
}

interface RunResult {
  readonly name: Name;
  readonly metric: number;
  /** Final ranks over all modules. */
  readonly ranks: number;
  /** Number of modules without ranks. */
  readonly withoutRanks: number;
  /** Seconds of the whole run, including compilation. */
  readonly seconds: number;
  readonly compileSeconds: number;
  /** Median step of the timed batch with the trained adapter, in milliseconds. */
  readonly stepMs: number;
  /** The adapters' part of that step, in milliseconds. */
  readonly adapterMs: number;
}

async function oneRun(name: Name, seed: number, floor: number): Promise<RunResult> {
  const peft = adapters[name](seed);
  const started = performance.now();
  const { compileMs, last } = await train(peft, data.training(seed), {
    executor: compiled({ threads }),
    epochs: Number(flags.epochs),
    learningRate: LEARNING_RATE,
    learningRates: { gate: GATE_LEARNING_RATE },
  });
  const seconds = (performance.now() - started) / 1000;
  const metrics = await evaluate(peft, data.judging, { executor: compiled({ threads }) });
  const counts = Object.values(last.ranks);
  const stepMs = await stepOf(peft);
  const run: RunResult = {
    name,
    metric: metrics[data.judging.primaryMetric] ?? NaN,
    ranks: counts.reduce((sum, count) => sum + count, 0),
    withoutRanks: counts.filter((count) => count === 0).length,
    seconds,
    compileSeconds: compileMs / 1000,
    stepMs,
    adapterMs: stepMs - floor,
  };
  process.stderr.write(`${JSON.stringify(run)}\n`);
  return run;
}

/** Returns the step time of the timed batch. The learning rate is 0, so that no gate moves. */
async function stepOf(peft: PeftModel): Promise<number> {
  const { times } = await timeSteps({ ...TIMED, learningRate: 0 }, peft, compiled({ threads }));
  return median(times);
}

function lowestModule({ sites }: PretrainedModel): string {
  const lowest = sites.find(({ kind, layer }) => kind === 'linear' && layer === 0);
  if (!lowest) throw new RangeError('the model has no linear module');
  return lowest.path;
}

async function textOf(
  { tokenizer, maxTokens }: PretrainedModel,
  folder: string,
): Promise<{ training(seed: number): TrainingData; judging: EvaluationData }> {
  const task = await glueTask(flags.task, folder, diskStorage());
  const most = Math.min(128, maxTokens);
  const rows = encodeRows(await sliceRows(task.train, Number(flags.rows), 1), tokenizer, { maxTokens: most });
  const dev = encodeRows(task.dev, tokenizer, { maxTokens: most });
  return {
    training: (seed) => trainingData(rows, { batchSize: BATCH_SIZE, seed }),
    judging: evaluationData(dev, { batchSize: 64, metrics: task.metrics }),
  };
}
