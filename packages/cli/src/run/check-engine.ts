import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { attach, hostTensor, train, type Batch, type Model, type PeftModel } from '@peftjs/core';
import type { TensorDistance } from '@peftjs/core/linalg';
import { ConfigError, createRng, hostFilled, hostIntegers, sizeOf, type HostTensors } from '@peftjs/core/method';
import { listBackends, type BackendReport } from '@peftjs/engine';
import {
  bertLayerNames,
  encoderNetwork,
  firstTokenOf,
  linearHead,
  weightShapes,
  type EncoderConfig,
} from '@peftjs/models/architectures';
import { median } from 'simple-statistics';
import { isSelectable, openExecutor, startEngine, type EnginePlan } from '../registry/executors.js';
import { availableMethods, resolveMethod, type AvailableMethod } from '../registry/methods.js';
import { farthestOf, FLOAT32, measure, type Tolerance } from './parity.js';

/* What `doctor --gpu` does with one backend, in a separate process. */

/** How far a backend is from the reference on one method. */
export interface MethodCheck {
  readonly method: string;
  /** Whether every distance is within the tolerance. */
  readonly passed: boolean;
  readonly farthest: Readonly<Record<keyof Tolerance, TensorDistance>>;
}

/** How far a backend is from the reference, and what it runs on. */
export interface EngineCheck {
  readonly checks: readonly MethodCheck[];
  /** Why not every method was checked. */
  readonly error?: string;
  /** Versions of libraries that the executor has found on the machine. */
  readonly versions: Readonly<Record<string, string>>;
  /** Graphics drivers in this process, by the names of their files. Only known on Linux. */
  readonly drivers: readonly string[];
  /** Whether the driver computes on the processor. */
  readonly software: boolean;
}

/** The time of a training step, or why there is none. */
export type Timing =
  | {
      readonly medianMs: number;
      /** Number of timed steps. */
      readonly steps: number;
      /** From the call of `train` to the end of the first step, which compiles. */
      readonly firstStepMs: number;
    }
  | { readonly error: string };

/** The time of a training step on each encoder. */
export type Timings = Readonly<Record<EncoderName, Timing>>;

/**
 * Random encoders and their batches: a small one, where the start of each operation takes most of the time, and one of
 * the shape of all-MiniLM-L6. Weights are drawn uniformly from minus `weights` up to it.
 */
export const ENCODERS = {
  small: { layers: 2, heads: 4, hidden: 64, ffn: 256, vocabulary: 1000, weights: 0.2, rows: 4, tokens: 16 },
  minilm: { layers: 6, heads: 12, hidden: 384, ffn: 1536, vocabulary: 30_522, weights: 0.03, rows: 16, tokens: 64 },
};

/** The name of an encoder. */
export type EncoderName = keyof typeof ENCODERS;

type EncoderSize = (typeof ENCODERS)[EncoderName];

/** Steps that a check trains. */
const CHECKED_STEPS = 5;
/** Steps that are timed, at most. */
const TIMED_STEPS = 10;
/** No step starts later than this after the first one has ended. */
const TIMED_MS = 5000;

const REFERENCE: EnginePlan = { executor: 'eager', backend: 'cpu', threads: 1, dtype: 'fp32' };

/** The backends that `--backend` can name and that can use a GPU. */
export async function gpuBackends(): Promise<BackendReport[]> {
  return (await listBackends()).filter((report) => report.gpu !== 'none' && isSelectable(report));
}

/**
 * The methods that backends are checked with: those whose packages give options for it. Steps are timed with the first.
 * @throws ConfigError if there is none.
 */
async function checkedMethods(): Promise<[AvailableMethod, ...AvailableMethod[]]> {
  const [first, ...others] = (await availableMethods()).filter(({ check }) => check);
  if (first) return [first, ...others];
  throw new ConfigError('no installed method has options to check backends with', 'method');
}

/**
 * Trains each method for a few steps on the small encoder, on a backend and on the reference; stops at the first method
 * that throws.
 * @throws EngineError if the backend does not start on this machine.
 */
export async function checkEngine(plan: EnginePlan): Promise<EngineCheck> {
  await startEngine(plan);
  const { versions = {} } = (await openExecutor(plan)).info;
  const checks: MethodCheck[] = [];
  let error: string | undefined;
  for (const method of await checkedMethods()) {
    try {
      checks.push(await checkMethod(plan, method));
    } catch (cause) {
      error = `${method.name}: ${(cause as Error).message}`;
      break;
    }
  }
  const drivers = loadedDrivers();
  return { checks, versions, drivers, software: isSoftware(drivers), ...(error !== undefined && { error }) };
}

async function checkMethod(plan: EnginePlan, method: AvailableMethod): Promise<MethodCheck> {
  const subject = {
    name: method.name,
    kind: 'classification',
    batches: randomBatches(ENCODERS.small, CHECKED_STEPS),
    attach: () => attached(method, ENCODERS.small),
  } as const;
  const actual = await measure(subject, await openExecutor(plan));
  const farthest = farthestOf(actual, await measure(subject, await openExecutor(REFERENCE)));
  const kinds = Object.keys(FLOAT32) as (keyof Tolerance)[];
  return { method: method.name, passed: kinds.every((kind) => farthest[kind].distance <= FLOAT32[kind]), farthest };
}

/** Times training steps of the first method. A software device would take minutes for a step of the larger encoder. */
export async function timeEngine(plan: EnginePlan): Promise<Timings> {
  const timed = (size: EncoderSize): Promise<Timing> =>
    timeSteps(plan, size).catch((error: unknown) => ({ error: (error as Error).message }));
  const small = await timed(ENCODERS.small);
  const isTooSlow = isSoftware(loadedDrivers());
  return { small, minilm: isTooSlow ? { error: 'left out on a software device' } : await timed(ENCODERS.minilm) };
}

async function timeSteps(plan: EnginePlan, size: EncoderSize): Promise<Timing> {
  const [method] = await checkedMethods();
  const peft = await attached(method, size);
  const batches = randomBatches(size, TIMED_STEPS + 1);
  const executor = await openExecutor(plan);
  const enough = new AbortController();
  const ends: number[] = [];
  const onStep = (): void => {
    ends.push(performance.now());
    if (ends.length > 1 && performance.now() - (ends[0] ?? 0) > TIMED_MS) enough.abort();
  };
  const start = performance.now();
  const data = { kind: 'classification', batchesPerEpoch: batches.length, epoch: () => batches } as const;
  try {
    await train(peft, data, { executor, epochs: 1, learningRate: 1e-3, onStep, signal: enough.signal });
  } catch (error) {
    if (!enough.signal.aborted) throw error;
  }
  const times = ends.slice(1).map((end, index) => end - (ends[index] ?? 0));
  return { medianMs: median(times), steps: times.length, firstStepMs: (ends[0] ?? NaN) - start };
}

async function attached({ name, check }: AvailableMethod, size: EncoderSize): Promise<PeftModel> {
  const { method } = await resolveMethod(name);
  return attach(randomEncoder(size), { method, config: method.parseConfig(check ?? {}) }, { seed: 5 });
}

const CLASSES = 2;

/** A BERT for two classes with random weights. */
function randomEncoder({ layers, heads, hidden, ffn, vocabulary, weights, tokens }: EncoderSize): Model {
  const config: EncoderConfig = {
    ...{ root: 'bert', layers: 'encoder.layer', names: bertLayerNames, defaultTargetModules: ['query', 'value'] },
    ...{ numHiddenLayers: layers, numAttentionHeads: heads, hiddenSize: hidden, intermediateSize: ffn },
    ...{ vocabSize: vocabulary, maxPositionEmbeddings: tokens, layerNormEps: 1e-12 },
  };
  const { defaultTargetModules, lookups, sites: body } = encoderNetwork(config);
  const { trained, forward, sites: headSites } = linearHead({ path: 'classifier' }, hidden, firstTokenOf(config));
  const sites = [...body, ...headSites(CLASSES)];
  const drawn = Object.entries(weightShapes({ sites, encodeOnly: [] })).map(([name, shape]) => {
    const rng = createRng(7).fork(name);
    const value = (): number => {
      if (shape.length > 1) return weights * (2 * rng.uniform() - 1);
      return name.endsWith('.weight') ? 1 : 0; // of a layer norm, or a bias
    };
    return [name, hostTensor(Float32Array.from({ length: sizeOf(shape) }, value), shape)] as const;
  });
  const tensors: HostTensors = Object.fromEntries(drawn);
  const identity = { name: 'random-encoder', fingerprint: JSON.stringify(config) };
  return { ...identity, sites, weights: tensors, head: trained, defaultTargetModules, lookups, forward };
}

/** Padded batches of random tokens. Each row is one token shorter than the one before, down to half the length. */
function randomBatches({ vocabulary, rows, tokens }: EncoderSize, count: number): Batch[] {
  const rng = createRng(3).fork('batches');
  const integers = (shape: readonly number[], draw: (at: number) => number) =>
    hostIntegers(
      Int32Array.from({ length: sizeOf(shape) }, (_, at) => draw(at)),
      shape,
    );
  const isToken = (at: number): boolean => (at % tokens) + (Math.floor(at / tokens) % Math.ceil(tokens / 2)) < tokens;
  const mask = Float32Array.from({ length: rows * tokens }, (_, at) => Number(isToken(at)));
  return Array.from({ length: count }, () => ({
    inputs: {
      inputIds: integers([rows, tokens], (at) => (isToken(at) ? rng.integer(vocabulary) : 0)),
      attentionMask: hostTensor(mask, [rows, tokens]),
    },
    labels: integers([rows], () => rng.integer(CLASSES)),
    rowWeights: hostFilled([rows], 1),
    rows: Array.from({ length: rows }, (_, row) => row),
  }));
}

/** Files of Vulkan drivers, and of NVIDIA's CUDA driver. */
const DRIVER = /^(?:libvk_swiftshader|libvulkan_\w+|libGLX_nvidia|libcuda|amdvlk\d*|libamdvlk\d*)\.so/;

/** The graphics drivers that this process has loaded, by the names of their files; empty on systems but Linux. */
function loadedDrivers(): string[] {
  try {
    return driversIn(readFileSync('/proc/self/maps', 'utf8'));
  } catch {
    return [];
  }
}

/** The drivers among the files that a process has mapped into memory, in the format of /proc/self/maps. */
export function driversIn(maps: string): string[] {
  const files = maps.split('\n').map((line) => basename(line));
  return [...new Set(files.filter((file) => DRIVER.test(file)))].sort();
}

/** Drivers that compute on the processor. */
const SOFTWARE = /^(?:libvk_swiftshader|libvulkan_lvp)\.so/;

/** Whether drivers were loaded, and all of them compute on the processor. */
export function isSoftware(drivers: readonly string[]): boolean {
  return drivers.length > 0 && drivers.every((driver) => SOFTWARE.test(driver));
}
