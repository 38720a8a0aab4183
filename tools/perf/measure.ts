import { BinaryReader, WireType } from '@bufbuild/protobuf/wire';
import { train, type Executor, type PeftModel } from '@peftjs/core';
import type { Site } from '@peftjs/core/method';
import { compiled, eager, type OrtRuntime } from '@peftjs/engine';
import { fromPretrained } from '@peftjs/models';
import { writeFile } from 'node:fs/promises';
import * as ort from 'onnxruntime-node';
import { max, median } from 'simple-statistics';
import { onModel, randomData, type PerfCase } from './cases.js';
import { models, type TimedModel } from './models.js';

/** One case in the output of `npm run perf -- --json`. */
export interface CaseResult extends Pick<PerfCase, 'name' | 'method' | 'dtype' | 'threads'> {
  /** Rows x tokens. */
  readonly shape: string;
  /** The executor's name. */
  readonly executor: string;
  /** The executor's backend. */
  readonly backend: string;
  /** Median time of a step, in milliseconds. */
  readonly stepMedianMs: number;
  /** Rate of the frozen network's matrix products, forward and backward, in GFLOP/s. */
  readonly gflops: number;
  /** That rate as a share of the machine's peak, 0 to 1. */
  readonly efficiency: number;
  /** Tokens trained on per second, including padding. */
  readonly tokensPerSecond: number;
  /** Seconds to read the model. */
  readonly loadSeconds: number;
  /** Seconds of compilation. */
  readonly compileSeconds: number;
  /** Seconds from the call of `train` to the end of the first step. */
  readonly firstStepSeconds: number;
  /** The same in processor time, of all threads. */
  readonly firstStepCpuSeconds: number;
  /** Peak memory of the process, in bytes. */
  readonly peakRssBytes: number;
  /** Peak memory until the model is loaded. */
  readonly loadPeakBytes: number;
  /** Peak memory of training, above that of the process with the loaded model; includes loading except on Linux. */
  readonly stepPeakBytes: number;
  /** The number of nodes of the step's graph; absent for eager executors. */
  readonly graphNodes?: number;
}

/**
 * Times training steps of a case in this process, including the method's work between steps.
 *
 * @param model the folder or the package of the model
 * @param peak the machine's peak rate, in GFLOP/s
 */
export async function measureCase(perfCase: PerfCase, model: string, peak: number): Promise<CaseResult> {
  const { dtype } = perfCase;
  const started = performance.now();
  const task = randomModel(perfCase)?.task ?? 'sequence-classification';
  const loaded = await fromPretrained(model, { dtype, task });
  const loadSeconds = (performance.now() - started) / 1000;
  const loadPeakBytes = peakBytes();
  const loadedBytes = await restartPeak();
  const peft = onModel[perfCase.method](loaded);
  const { executor, nodes } = await opened(perfCase);
  const { times, ...first } = await timeSteps({ ...perfCase, learningRate: 1e-3 }, peft, executor);
  const stepMedianMs = median(times);
  const [rows, tokens] = perfCase.batch;
  const gflops = baseFlops(peft, perfCase) / stepMedianMs / 1e6;
  return {
    name: perfCase.name,
    method: perfCase.method,
    shape: `${rows}x${tokens}`,
    executor: executor.info.executor,
    backend: executor.info.backend,
    dtype,
    threads: perfCase.threads,
    stepMedianMs,
    gflops,
    efficiency: gflops / peak,
    tokensPerSecond: (1000 * rows * tokens) / stepMedianMs,
    loadSeconds,
    compileSeconds: first.compileMs / 1000,
    firstStepSeconds: first.firstStepMs / 1000,
    firstStepCpuSeconds: first.firstStepCpuMs / 1000,
    peakRssBytes: Math.max(loadPeakBytes, peakBytes()),
    loadPeakBytes,
    stepPeakBytes: peakBytes() - loadedBytes,
    ...(nodes.length > 0 && { graphNodes: max(nodes) }),
  };
}

function peakBytes(): number {
  return process.resourceUsage().maxRSS * 1024;
}

/** Makes the peak of resident memory start again from the current value, and returns that. */
async function restartPeak(): Promise<number> {
  (globalThis as { readonly gc?: () => void }).gc?.();
  if (process.platform === 'linux') await writeFile('/proc/self/clear_refs', '5');
  return process.memoryUsage.rss();
}

/** Opens the executor of a case. `nodes` will have the number of nodes of every graph that it opens. */
async function opened({ executor, threads }: PerfCase): Promise<{ executor: Executor; nodes: number[] }> {
  const nodes: number[] = [];
  if (executor !== 'compiled') return { executor: await eager({ backend: executor }), nodes };
  const runtime = onnxRuntime((model, options) => {
    nodes.push(nodesIn(model));
    return ort.InferenceSession.create(model, options);
  });
  return { executor: compiled({ threads, runtime, executionProviders: ['cpu'] }), nodes };
}

/** Returns ONNX Runtime for Node with its own way of opening sessions. */
export function onnxRuntime(
  create: (model: Uint8Array, options?: ort.InferenceSession.SessionOptions) => Promise<ort.InferenceSession>,
): OrtRuntime {
  return { ...ort, InferenceSession: { create } };
}

/** Counts the nodes of an ONNX model: field 7 of a model is its graph, field 1 of a graph a node (onnx.proto3). */
export function nodesIn(model: Uint8Array): number {
  return messagesIn(model, 7).reduce((sum, graph) => sum + messagesIn(graph, 1).length, 0);
}

function messagesIn(message: Uint8Array, field: number): Uint8Array[] {
  const reader = new BinaryReader(message);
  const found: Uint8Array[] = [];
  while (reader.pos < reader.len) {
    const [number, type] = reader.tag();
    if (number === field && type === WireType.LengthDelimited) found.push(reader.bytes());
    else reader.skip(type, number);
  }
  return found;
}

/** What `timeSteps` measured, in milliseconds. */
interface StepTimes {
  /** From each step's end to the next. */
  readonly times: number[];
  /** Compilation. */
  readonly compileMs: number;
  /** From the call of `train` to the end of the first step, which compiles. */
  readonly firstStepMs: number;
  /** The same in processor time, of all threads. */
  readonly firstStepCpuMs: number;
}

/** Times steps on random batches. */
export async function timeSteps(
  { batch, steps, learningRate, training }: Pick<PerfCase, 'batch' | 'steps' | 'training'> & { learningRate: number },
  peft: PeftModel,
  executor: Executor,
): Promise<StepTimes> {
  const data = randomData(peft.model, batch, steps + 1);
  const ends: number[] = [];
  let firstStepCpu = process.cpuUsage();
  const onStep = (): void => {
    if (ends.length === 0) firstStepCpu = process.cpuUsage(firstStepCpu);
    ends.push(performance.now());
  };
  const started = performance.now();
  const { compileMs } = await train(peft, data, { executor, epochs: 1, learningRate, onStep, ...training });
  const times = ends.slice(1).map((end, index) => end - (ends[index] ?? 0));
  const firstStepCpuMs = (firstStepCpu.user + firstStepCpu.system) / 1000;
  return { times, compileMs, firstStepMs: (ends[0] ?? NaN) - started, firstStepCpuMs };
}

/**
 * The floating-point operations of the frozen linear modules in a step: the forward pass, and the backward pass to
 * their inputs unless those depend only on frozen modules. In a text classifier's last layer only keys and values are
 * computed for all positions. A language model's head is computed for all of them.
 */
function baseFlops({ model }: PeftModel, perfCase: PerfCase): number {
  const [rows, tokens] = perfCase.batch;
  const pooledLayer = lastLayerOfClassifier(perfCase);
  const inBlocks = model.sites.filter(({ kind, layer }) => kind === 'linear' && layer !== undefined);
  const heads = (model.tied ?? []).map(({ site }) => site);
  return [...inBlocks, ...heads].reduce((sum, site) => {
    const passes = readsEmbeddings(site) ? 1 : 2;
    const pooled = site.layer !== undefined && site.layer === pooledLayer && !/attention\.(key|value)/.test(site.role);
    return sum + passes * 2 * rows * (pooled ? 1 : tokens) * site.inFeatures * site.outFeatures;
  }, 0);
}

/** Returns the layer that is computed for one position only, if any. */
function lastLayerOfClassifier(perfCase: PerfCase): number | undefined {
  const model = randomModel(perfCase);
  return model?.task === 'sequence-classification' ? (model.config['num_hidden_layers'] as number) - 1 : undefined;
}

function randomModel({ model }: PerfCase): TimedModel | undefined {
  return model === 'use-lite' ? undefined : models[model];
}

/** Whether a module's input is the embeddings: every case here adapts the first modules of the first layer. */
function readsEmbeddings({ layer, role }: Site): boolean {
  return layer === 0 && (role === 'other' || (role.startsWith('attention.') && role !== 'attention.output'));
}
