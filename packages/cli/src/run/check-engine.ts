import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { attach, train, type Executor, type PeftModel } from '@peftjs/core';
import { listBackends, type BackendReport } from '@peftjs/engine';
import { median } from 'simple-statistics';
import { isSelectable, openExecutor, type EnginePlan } from '../registry/executors.js';
import { resolveMethod } from '../registry/methods.js';
import { packageRoot } from '../registry/packages.js';
import { loadedDrivers } from './devices.js';
import { largestDistance, measure, type LargestDistance, type Subject, type Tolerance } from './parity.js';
import { randomBatches, randomEncoder, type EncoderShape } from './random-encoder.js';

/** Methods with their options: each is one correctness check. Steps are timed with the first one. */
const CHECKS = JSON.parse(readFileSync(join(packageRoot, 'checks.json'), 'utf8')) as Readonly<
  Record<string, Readonly<Record<string, unknown>>>
>;

/** The methods that a backend is checked with. */
export const checkedMethods: readonly string[] = Object.keys(CHECKS);

/** How far a backend is from the reference on one method, and what it runs on. */
export interface EngineCheck {
  readonly farthest: Readonly<Record<keyof Tolerance, LargestDistance>>;
  /** Versions of libraries that the executor has found on the machine. */
  readonly versions: Readonly<Record<string, string>>;
  /** Graphics drivers in this process, by the names of their files. Only known on Linux. */
  readonly drivers: readonly string[];
}

/** The time of a training step. */
export interface StepTime {
  readonly medianMs: number;
  /** Number of timed steps. */
  readonly steps: number;
  /** From the call of `train` to the end of the first step, which compiles. */
  readonly firstStepMs: number;
}

/** The encoder that backends are checked on, and its batches. */
const SMALL: EncoderShape = { layers: 2, hidden: 32, ffn: 64, heads: 4, vocabulary: 64, weights: 0.3 };
const SMALL_BATCHES = { count: 5, rows: 4, tokens: 12 };

/** An encoder that steps are timed on, with its batches. */
interface TimedEncoder {
  readonly shape: EncoderShape;
  /** Rows and tokens of a batch. */
  readonly batch: { readonly rows: number; readonly tokens: number };
}

/** A small encoder, where the start of each operation takes most of the time, and one of the shape of all-MiniLM-L6. */
export const TIMED_SIZES = {
  small: {
    shape: { layers: 2, hidden: 64, ffn: 256, heads: 4, vocabulary: 1000, weights: 0.2 },
    batch: { rows: 4, tokens: 16 },
  },
  minilm: {
    shape: { layers: 6, hidden: 384, ffn: 1536, heads: 12, vocabulary: 30_522, weights: 0.03 },
    batch: { rows: 16, tokens: 64 },
  },
} as const satisfies Record<string, TimedEncoder>;

/** The name of an encoder that steps are timed on. */
export type TimedSize = keyof typeof TIMED_SIZES;

/** Steps that are timed, at most. */
const MAX_STEPS = 20;
/** No step starts later than this after the first one has ended. */
const TIMED_MS = 15_000;

const SEED = 5;
const REFERENCE: EnginePlan = { executor: 'eager', backend: 'cpu', threads: 1, dtype: 'fp32' };

/** The backends that `--backend` can name and that can use a GPU. */
export async function gpuBackends(): Promise<BackendReport[]> {
  return (await listBackends()).filter((report) => report.gpu !== 'none' && isSelectable(report));
}

/** Trains one method for a few steps on a small random encoder, on a backend and on the reference. */
export async function checkEngine(plan: EnginePlan, method: string): Promise<EngineCheck> {
  const subject: Subject = {
    name: method,
    kind: 'classification',
    batches: randomBatches(SMALL, SMALL_BATCHES),
    attach: () => attached(method, SMALL, SMALL_BATCHES.tokens),
  };
  const executor = await openExecutor(plan);
  const actual = await measure(subject, executor);
  const expected = await measure(subject, await openExecutor(REFERENCE));
  return {
    farthest: largestDistance(actual, expected),
    versions: executor.info.versions ?? {},
    drivers: loadedDrivers(),
  };
}

/** Times training steps of the first method. */
export async function timeEngine(plan: EnginePlan, size: TimedSize): Promise<StepTime> {
  const [method = ''] = checkedMethods;
  const timed: TimedEncoder = TIMED_SIZES[size];
  return timeSteps(timed, await attached(method, timed.shape, timed.batch.tokens), await openExecutor(plan));
}

async function attached(name: string, shape: EncoderShape, tokens: number): Promise<PeftModel> {
  const { method } = await resolveMethod(name);
  return attach(
    randomEncoder(shape, tokens),
    { method, config: method.parseConfig(CHECKS[name] ?? {}) },
    { seed: SEED },
  );
}

async function timeSteps(timed: TimedEncoder, peft: PeftModel, executor: Executor): Promise<StepTime> {
  const batches = randomBatches(timed.shape, { count: MAX_STEPS + 1, ...timed.batch });
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
