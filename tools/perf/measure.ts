import { train, type Executor, type PeftModel } from '@peftjs/core';
import type { Site } from '@peftjs/core/method';
import { fromPretrained } from '@peftjs/models';
import { median } from 'simple-statistics';
import { onModel, randomBatch, type Dtype, type PerfCase } from './cases.js';

/** One case in the output of `npm run perf -- --json`. */
export interface CaseResult {
  /** The case's name. */
  readonly name: string;
  /** The method. */
  readonly method: string;
  /** Rows x tokens. */
  readonly shape: string;
  /** The executor's name. */
  readonly executor: string;
  /** The executor's backend. */
  readonly backend: string;
  /** The precision of the frozen weights. */
  readonly dtype: Dtype;
  /** Number of threads. */
  readonly threads: number;
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
  /** Peak memory of the process, in bytes. */
  readonly peakRssBytes: number;
}

/**
 * Times training steps of a case in this process, including the method's work between steps.
 *
 * @param model the folder or the package of the model
 * @param peak the machine's peak rate, in GFLOP/s
 */
export async function measureCase(perfCase: PerfCase, model: string, peak: number): Promise<CaseResult> {
  const started = performance.now();
  const peft = onModel[perfCase.method](await fromPretrained(model, { dtype: perfCase.dtype }));
  const loadSeconds = (performance.now() - started) / 1000;
  const executor = await perfCase.executor();
  const { times, compileMs, firstStepMs } = await timeSteps({ ...perfCase, learningRate: 1e-3 }, peft, executor);
  const stepMedianMs = median(times);
  const [rows, tokens] = perfCase.batch;
  const gflops = baseFlops(peft, perfCase) / stepMedianMs / 1e6;
  return {
    name: perfCase.name,
    method: perfCase.method,
    shape: `${rows}x${tokens}`,
    executor: executor.info.executor,
    backend: executor.info.backend,
    dtype: perfCase.dtype,
    threads: perfCase.threads,
    stepMedianMs,
    gflops,
    efficiency: gflops / peak,
    tokensPerSecond: (1000 * rows * tokens) / stepMedianMs,
    loadSeconds,
    compileSeconds: compileMs / 1000,
    firstStepSeconds: firstStepMs / 1000,
    peakRssBytes: process.resourceUsage().maxRSS * 1024,
  };
}

/** Returns the milliseconds from each step's end to the next, and to the end of the first step, which compiles. */
export async function timeSteps(
  { batch, steps, learningRate }: Pick<PerfCase, 'batch' | 'steps'> & { readonly learningRate: number },
  peft: PeftModel,
  executor: Executor,
): Promise<{ times: number[]; compileMs: number; firstStepMs: number }> {
  const batches = Array.from({ length: steps + 1 }, () => randomBatch(batch));
  const data = { kind: 'classification', batchesPerEpoch: batches.length, epoch: () => batches } as const;
  const ends: number[] = [];
  const onStep = (): void => void ends.push(performance.now());
  const started = performance.now();
  const { compileMs } = await train(peft, data, { executor, epochs: 1, learningRate, onStep });
  const times = ends.slice(1).map((end, index) => end - (ends[index] ?? 0));
  return { times, compileMs, firstStepMs: (ends[0] ?? NaN) - started };
}

/**
 * The floating-point operations of the frozen linear modules in a step: the forward pass, and the backward pass to
 * their inputs unless those depend only on frozen modules. In a pooled last layer only keys and values are computed for
 * all positions.
 */
function baseFlops({ model }: PeftModel, { batch: [rows, tokens], pooledLayer }: PerfCase): number {
  const inBlocks = model.sites.filter(({ kind, layer }) => kind === 'linear' && layer !== undefined);
  return inBlocks.reduce((sum, site) => {
    const passes = readsEmbeddings(site) ? 1 : 2;
    const pooled = site.layer === pooledLayer && !/attention\.(key|value)/.test(site.role);
    return sum + passes * 2 * rows * (pooled ? 1 : tokens) * site.inFeatures * site.outFeatures;
  }, 0);
}

/** Whether a module's input is the embeddings: every case here adapts the first modules of the first layer. */
function readsEmbeddings({ layer, role }: Site): boolean {
  return layer === 0 && (role === 'other' || (role.startsWith('attention.') && role !== 'attention.output'));
}
