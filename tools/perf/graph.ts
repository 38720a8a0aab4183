/*
 * npx tsx --conditions @peftjs/source tools/perf/graph.ts GRAPH FOLDER [--batch 16x64] [--rounds 3] [--steps 10] [--method lora]
 *
 * Trains LoRA or SoRA on sentence embeddings of an ONNX graph, and of the checkpoint that it was exported from. Prints
 * the number of nodes of a step, the processor time of one, and the largest relative difference of the losses. Rounds
 * alternate.
 */
import { parseArgs } from 'node:util';
import { attach, hostTensor, train, type Model, type TrainingData } from '@peftjs/core';
import { hostFilled } from '@peftjs/core/method';
import { compiled } from '@peftjs/engine';
import { lora } from '@peftjs/lora';
import { fromPretrained } from '@peftjs/models';
import { fromOnnx } from '@peftjs/onnx';
import { sora } from '@peftjs/sora';
import * as ort from 'onnxruntime-node';
import { median } from 'simple-statistics';
import { randomData } from './cases.js';
import { nodesIn, onnxRuntime } from './measure.js';

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    batch: { type: 'string', default: '16x64' },
    rounds: { type: 'string', default: '3' },
    steps: { type: 'string', default: '10' },
    method: { type: 'string', default: 'lora' },
  },
});
const [graph = '', folder = ''] = positionals;
const [rows = 0, tokens = 0] = flags.batch.split('x').map(Number);
const steps = Number(flags.steps);
const options = { task: 'feature-extraction', pooling: 'mean', normalize: true } as const;

const opened = [
  { name: 'graph', model: await fromOnnx(graph, options) },
  { name: 'checkpoint', model: await fromPretrained(folder, options) },
].map((one) => ({ ...one, ...timer(one.model), times: [] as number[], losses: [] as number[] }));
for (let round = 0; round < Number(flags.rounds); round++) {
  for (const one of opened) {
    const { times, losses } = await one.run();
    one.times.push(...times);
    one.losses = losses;
  }
}
const [ours, theirs] = opened.map(({ name, times, nodes, losses }) => {
  console.log(`${name}: ${Math.max(...nodes)} nodes, ${median(times).toFixed(1)} ms of processor time per step`);
  return { time: median(times), losses };
});
const differences = ours?.losses.map((loss, at) => Math.abs(loss / (theirs?.losses[at] ?? NaN) - 1)) ?? [];
console.log(
  `ratio ${((ours?.time ?? NaN) / (theirs?.time ?? NaN)).toFixed(3)}, losses within ${Math.max(...differences).toExponential(1)}`,
);

/** Returns a function that trains a model for some steps, and the numbers of nodes of the graphs that it opens. */
function timer(model: Model) {
  const nodes: number[] = [];
  const runtime = onnxRuntime((bytes, options) => {
    nodes.push(nodesIn(bytes));
    return ort.InferenceSession.create(bytes, options);
  });
  const executor = compiled({ threads: 1, runtime, executionProviders: ['cpu'] });
  const data = paired(randomData(model, [rows, tokens], steps + 1));
  const run = async (): Promise<{ times: number[]; losses: number[] }> => {
    const [ends, losses]: [number[], number[]] = [[], []];
    const options = { r: 8, targetModules: ['query', 'value'] };
    const peft =
      flags.method === 'sora' ? attach(model, sora(options), { seed: 1 }) : attach(model, lora(options), { seed: 1 });
    const onStep = ({ loss }: { loss: number }): void => {
      const { user, system } = process.cpuUsage();
      ends.push((user + system) / 1000);
      losses.push(loss);
    };
    await train(peft, data, { executor, epochs: 1, learningRate: 1e-3, onStep, gradientCheckpointing: false });
    return { times: ends.slice(1).map((end, at) => end - (ends[at] ?? 0)), losses };
  };
  return { nodes, run };
}

/** The same texts in pairs, with a similarity for each. */
function paired(data: TrainingData): TrainingData {
  const half = rows / 2;
  const labels = hostTensor(
    Float32Array.from({ length: half }, (_, at) => at % 2),
    [half],
  );
  const rowWeights = hostFilled([half], 1);
  const batches = [...data.epoch(0)].map(({ inputs }) => ({
    ...{ inputs, labels, rowWeights, columns: 2 },
    rows: [...Array(half).keys()],
  }));
  return { ...data, kind: 'scored-pairs', epoch: () => batches };
}
