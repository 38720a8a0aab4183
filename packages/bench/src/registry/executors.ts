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

/** A plan that names the backend and the threads it will really run on: they move the numbers, so they belong to them. */
export async function resolveEngine(plan: EnginePlan): Promise<EnginePlan> {
  if (plan.executor !== 'eager') return plan;
  const { backend, threads } = (await openExecutor(plan)).info;
  return { ...plan, backend, threads };
}
