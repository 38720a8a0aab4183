import {
  biasCorrections,
  defaultAdamW,
  hostScalar,
  hostZeros,
  openSession,
  type HostTensors,
  type PeftModel,
  type Session,
  type TrainingState,
} from '@peftjs/core';
import { median } from 'simple-statistics';
import { randomBatch, type PerfCase } from './cases.js';

/** What `npm run perf -- --json` says of a case. */
export interface CaseResult {
  readonly name: string;
  readonly method: string;
  /** Rows x tokens. */
  readonly shape: string;
  readonly executor: string;
  readonly backend: string;
  readonly dtype: 'fp32';
  readonly threads: number;
  readonly stepMedianMs: number;
  /** Of the frozen network's matrix products, forward and backward. */
  readonly gflops: number;
  /** Share of the machine's peak in such products. */
  readonly efficiency: number;
  readonly tokensPerSecond: number;
  readonly compileSeconds: number;
  readonly peakRssBytes: number;
}

/** Times training steps of a case in this process. `peak` is the machine's, in GFLOP/s. */
export async function measureCase(perfCase: PerfCase, peak: number): Promise<CaseResult> {
  const model = await perfCase.model();
  const peft = perfCase.attach(model);
  const executor = await perfCase.executor();
  const session = openSession(model, peft.adapter, executor);
  const times = await timeSteps(perfCase, peft, session);
  const stepMedianMs = median(times);
  const [rows, tokens] = perfCase.batch;
  const gflops = baseFlops(peft, rows * tokens) / stepMedianMs / 1e6;
  const result = {
    name: perfCase.name,
    method: perfCase.method,
    shape: `${rows}x${tokens}`,
    executor: executor.info.executor,
    backend: executor.info.backend,
    dtype: 'fp32' as const,
    threads: perfCase.threads,
    stepMedianMs,
    gflops,
    efficiency: gflops / peak,
    tokensPerSecond: (1000 * rows * tokens) / stepMedianMs,
    compileSeconds: session.compileMs() / 1000,
    peakRssBytes: process.resourceUsage().maxRSS * 1024,
  };
  await session.dispose();
  return result;
}

async function timeSteps(
  { batch: size, steps }: PerfCase,
  { adapter }: PeftModel,
  session: Session,
): Promise<number[]> {
  const batch = randomBatch(size);
  const trained = Object.values({ ...adapter.layers, ...adapter.saved }).flatMap(({ site, params }) =>
    Object.entries(params).map(([name, { initial }]) => [`${site.path}.${name}`, hostZeros(initial.shape)] as const),
  );
  const zeros: HostTensors = Object.fromEntries(trained);
  const state: TrainingState = {
    adapter: session.upload(adapter.values),
    moment1: session.upload(zeros),
    moment2: session.upload(zeros),
  };
  const plan = { totalSteps: steps + 1, warmupSteps: 0, finalSteps: 1 };
  const controller = adapter.method.controller?.(adapter.layers, adapter.config, plan);
  const settings = { objective: 'classification' as const, optimizer: defaultAdamW, clipNorm: 1, unclippedGroups: [] };
  const rates = { default: 1e-3, head: 1e-3, gate: 1e-3 };
  const times: number[] = [];
  for (let step = 1; step <= steps + 1; step++) {
    const scalars = {
      ...controller?.scalars(step, rates),
      ...biasCorrections(step, defaultAdamW),
      ...Object.fromEntries(Object.entries(rates).map(([group, rate]) => [`learningRate.${group}`, rate])),
    };
    const fed = Object.fromEntries(Object.entries(scalars).map(([name, value]) => [name, hostScalar(value)]));
    const started = performance.now();
    await session.step(settings, state, batch, fed);
    times.push(performance.now() - started);
  }
  return times.slice(1); // the first one compiles
}

/** Floating-point operations of the frozen linear modules that a step needs: forward, and backward to their inputs. */
function baseFlops({ model }: PeftModel, rows: number): number {
  const inBlocks = model.sites.filter(({ kind, layer }) => kind === 'linear' && layer !== undefined);
  return inBlocks.reduce((sum, { inFeatures, outFeatures }) => sum + 2 * 2 * rows * inFeatures * outFeatures, 0);
}
