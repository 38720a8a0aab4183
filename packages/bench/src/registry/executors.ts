import type { Executor } from '@peftjs/core';
import { ConfigError, didYouMean } from '@peftjs/core/method';
import { compiled, eager } from '@peftjs/engine';

/** Which engine a plan asks for. */
export interface EnginePlan {
  readonly executor: string;
  readonly backend: string;
  readonly threads: number;
  readonly dtype: string;
}

/** The backends that `--backend` names, by engine. */
const BACKENDS: Readonly<Record<string, readonly string[]>> = {
  compiled: ['auto', 'cpu', 'webgpu', 'cuda'],
  eager: ['auto', 'tensorflow', 'wasm', 'cpu'],
};

/** Whether flags can name an engine's backend. */
export function isOffered({ executor, backend }: Pick<EnginePlan, 'executor' | 'backend'>): boolean {
  return backendsOf(executor).includes(backend);
}

/** The engine that flags name. @throws ConfigError for a backend that it does not have. */
export function engineFromFlags(flags: { engine: string; backend: string; dtype: string }): EnginePlan {
  const { engine: executor, backend, dtype } = flags;
  if (!isOffered({ executor, backend })) {
    const other = Object.keys(BACKENDS).find((engine) => backendsOf(engine).includes(backend));
    const hint = other === undefined ? '' : ` ('${backend}' is one of --engine ${other})`;
    throw new ConfigError(
      `--engine ${executor} has no backend '${backend}'${didYouMean(backend, backendsOf(executor))}; expected ${backendsOf(executor).join(', ')}${hint}`,
      'backend',
    );
  }
  return { executor, backend: executor === 'compiled' && backend === 'auto' ? 'cpu' : backend, threads: 1, dtype };
}

function backendsOf(executor: string): readonly string[] {
  return BACKENDS[executor] ?? [];
}

/** Whether a compiled engine computes on a device beside the processor: it may be missing, and all processes share it. */
export function isOnDevice({ executor, backend }: Pick<EnginePlan, 'executor' | 'backend'>): boolean {
  return executor === 'compiled' && backend !== 'cpu';
}

/** Opens the executor of a plan. @throws ConfigError for an unknown one. */
export async function openExecutor({ executor, backend, threads }: EnginePlan): Promise<Executor> {
  switch (executor) {
    case 'compiled':
      return compiled({ threads, executionProviders: [backend] });
    case 'eager':
      return await eager({ backend: backend as 'auto' });
    default:
      throw new ConfigError(`--engine is '${executor}'; expected compiled or eager`, 'engine');
  }
}

/** Compiles the smallest function there is. @throws EngineError when the engine of a plan does not start here. */
export async function startEngine(plan: EnginePlan): Promise<void> {
  const executor = await openExecutor(plan);
  const { dispose } = await executor.compile((inputs) => inputs, { x: { dtype: 'float32', shape: [1] } });
  await dispose();
}

/** A plan of what really runs, and versions of libraries that are the machine's. */
interface ResolvedEngine {
  readonly engine: EnginePlan;
  readonly versions: Readonly<Record<string, string>>;
}

/**
 * A plan that names the backend, the threads and the weights it will really run on: they move the numbers, so they belong to them.
 * An executor that does not multiply by bytes writes weights in 8 bits out, rounded as they are.
 */
export async function resolveEngine(plan: EnginePlan): Promise<ResolvedEngine> {
  const { info, uploadBytes } = await openExecutor(plan);
  const { backend, threads, versions = {} } = info;
  const dtype = plan.dtype === 'q8' && !uploadBytes ? WRITTEN_OUT : plan.dtype;
  return { engine: { ...plan, backend, threads, dtype }, versions };
}

const WRITTEN_OUT = 'q8 as fp32';

/** How the model of a plan holds its weights. */
export function weightDtype({ dtype }: Pick<EnginePlan, 'dtype'>): 'fp32' | 'q8' {
  return dtype === 'fp32' ? 'fp32' : 'q8';
}
