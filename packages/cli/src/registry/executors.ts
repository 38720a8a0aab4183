import type { Executor } from '@peftjs/core';
import { ConfigError } from '@peftjs/core/method';
import { didYouMean, WEIGHT_DTYPES, type WeightDtype } from '@peftjs/core/model';
import { compiled, eager } from '@peftjs/engine';

/** The engine that a plan asks for. */
export interface EnginePlan {
  /** The engine: `compiled` or `eager`. */
  readonly executor: string;
  /** Its backend, such as `cpu`. */
  readonly backend: string;
  /** Threads per process. */
  readonly threads: number;
  /** The format of frozen weights, such as `fp32`. */
  readonly dtype: string;
}

/** The backends that `--backend` accepts, by engine. */
const BACKENDS: Readonly<Record<string, readonly string[]>> = {
  compiled: ['auto', 'cpu', 'webgpu', 'cuda'],
  eager: ['auto', 'tensorflow', 'wasm', 'cpu'],
};

/** Whether the flags accept an engine's backend. */
export function isSelectable({ executor, backend }: Pick<EnginePlan, 'executor' | 'backend'>): boolean {
  return backendsOf(executor).includes(backend);
}

/** Parses the engine flags. @throws ConfigError for a backend that the engine does not have. */
export function engineFromFlags({
  engine: executor = 'compiled',
  backend = 'auto',
  dtype = 'fp32',
}: Partial<Record<'engine' | 'backend' | 'dtype', string>>): EnginePlan {
  if (!isSelectable({ executor, backend })) {
    const other = Object.keys(BACKENDS).find((engine) => backendsOf(engine).includes(backend));
    const hint = other === undefined ? '' : ` (--engine ${other} has '${backend}')`;
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

/**
 * Whether a compiled engine runs on a device other than the CPU. The device may be missing, and all processes share it.
 */
export function isOnDevice({ executor, backend }: Pick<EnginePlan, 'executor' | 'backend'>): boolean {
  return executor === 'compiled' && backend !== 'cpu';
}

/** Opens the executor of a plan. @throws ConfigError for an unknown engine. */
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

/** Compiles a minimal function. @throws EngineError if the engine does not start on this machine. */
export async function startEngine(plan: EnginePlan): Promise<void> {
  const executor = await openExecutor(plan);
  const { dispose } = await executor.compile((inputs) => inputs, { x: { dtype: 'float32', shape: [1] } });
  await dispose();
}

/**
 * Replaces `auto` and the like in a plan by the backend, threads and weight format that it really runs with, and gives
 * the versions of the machine's libraries: numbers depend on them. An executor without 8-bit multiplication expands
 * weights in 8 or 4 bits to float32, with their rounding.
 */
export async function resolveEngine(
  plan: EnginePlan,
): Promise<{ readonly engine: EnginePlan; readonly versions: Readonly<Record<string, string>> }> {
  const { info, uploadBytes } = await openExecutor(plan);
  const { backend, threads, versions = {} } = info;
  const held = weightDtype(plan);
  const dtype = held === 'fp32' || uploadBytes ? plan.dtype : `${held}${EXPANDED}`;
  return { engine: { ...plan, backend, threads, dtype }, versions };
}

/** Follows the name of a format whose weights are expanded to float32. */
const EXPANDED = ' as fp32';

/** The weight format in which to load the model of a plan. */
export function weightDtype({ dtype }: Pick<EnginePlan, 'dtype'>): WeightDtype {
  return WEIGHT_DTYPES.find((format) => dtype === format || dtype === `${format}${EXPANDED}`) ?? 'fp32';
}
