import { ConfigError, type Executor } from '@peftjs/core';
import { compiled, eager } from '@peftjs/engine';

/** Which engine a plan asks for. */
export interface EnginePlan {
  readonly executor: string;
  readonly backend: string;
  readonly threads: number;
  readonly dtype: string;
}

/** Opens the executor of a plan. @throws ConfigError for an unknown one. */
export async function openExecutor({ executor, backend, threads }: EnginePlan): Promise<Executor> {
  switch (executor) {
    case 'compiled':
      return compiled({ threads });
    case 'eager':
      return await eager({ backend: backend as 'auto' });
    default:
      throw new ConfigError(`--engine is '${executor}'; expected compiled or eager`, 'engine');
  }
}

/**
 * A plan that names the backend, the threads and the weights it will really run on: they move the numbers, so they belong to them.
 * An executor that does not multiply by bytes writes weights in 8 bits out, rounded as they are.
 */
export async function resolveEngine(plan: EnginePlan): Promise<EnginePlan> {
  if (plan.executor !== 'eager') return plan;
  const { info, uploadBytes } = await openExecutor(plan);
  const dtype = plan.dtype === 'q8' && !uploadBytes ? WRITTEN_OUT : plan.dtype;
  return { ...plan, backend: info.backend, threads: info.threads, dtype };
}

const WRITTEN_OUT = 'q8 as fp32';

/** How the model of a plan holds its weights. */
export function weightDtype({ dtype }: Pick<EnginePlan, 'dtype'>): 'fp32' | 'q8' {
  return dtype === 'fp32' ? 'fp32' : 'q8';
}
