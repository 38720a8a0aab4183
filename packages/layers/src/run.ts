import {
  ConfigError,
  createRng,
  warnOnce,
  type Adapter,
  type AdapterLayers,
  type Controller,
  type Rng,
  type TrainPlan,
} from '@peftjs/core/method';
import { trainedAdapter, type Attachment } from './attachment.js';

/** How the adapters on a model are trained by its own `fit`. */
export interface FitOptions {
  /**
   * The shape of a training run, where the arguments of `fit` do not say it or say something else. With `totalSteps` a run goes
   * on over several calls of `fit`, `fitDataset` or `trainOnBatch`; without, each call is one. Default for the others: 6 % of
   * the steps are warm-up, the last 30 % are those in which a budget holds.
   */
  readonly plan?: Partial<TrainPlan>;
  /** Learning rates of groups of parameters (`gate`, `head`), in learning rates of the optimizer. Default 1. */
  readonly rateFactors?: Readonly<Record<string, number>>;
}

/** The last training run on a model. */
export interface Run {
  /** The layers that it trains. */
  readonly layers: AdapterLayers;
  readonly controller: Controller | undefined;
  readonly plan: TrainPlan | undefined;
  readonly rateFactors: Readonly<Record<string, number>>;
  /** Where dropout's random numbers come from; forked by the number of steps that the model has done. */
  readonly noise: Rng;
  /** Steps of the runs before. */
  readonly before: number;
  step: number;
}

const WARMUP_SHARE = 0.06;
const FINAL_SHARE = 0.3;

/**
 * The run that a call of `fit` belongs to: the former one while the plan of it is given beforehand and not done.
 * @param steps of this call, where that is known
 * @throws ConfigError when it is not one adapter that acts, or its method needs to know the number of steps and cannot.
 */
export function runFor(
  { peft }: Attachment,
  { plan: given = {}, rateFactors = {} }: FitOptions,
  former: Run | undefined,
  steps: number | undefined,
): Run {
  const adapter = trainedAdapter(peft);
  if (!adapter) {
    throw new ConfigError('training needs one active adapter, enabled and not merged: see setAdapter', 'active');
  }
  const goesOn = former?.layers === adapter.layers && former.step < (given.totalSteps ?? 0);
  if (goesOn) return former;
  const plan = planOf(given, steps);
  return {
    layers: adapter.layers,
    controller: controllerOf(adapter, plan),
    plan,
    rateFactors,
    noise: createRng(peft.seed).fork('noise'),
    before: former ? former.before + former.step : 0,
    step: 0,
  };
}

/** Warns of a run that ended before its method was done. */
export function tellWhetherDone({ controller, plan, step }: Run): void {
  if (!controller || !plan || step >= plan.totalSteps || controller.holdsBudget(step)) return;
  warnOnce(`training stopped after ${step} of ${plan.totalSteps} steps: the adapter does not keep its budget yet`);
}

function planOf(given: Partial<TrainPlan>, steps: number | undefined): TrainPlan | undefined {
  const totalSteps = given.totalSteps ?? steps;
  if (totalSteps === undefined) return undefined;
  return {
    totalSteps,
    warmupSteps: given.warmupSteps ?? Math.floor(WARMUP_SHARE * totalSteps),
    finalSteps: given.finalSteps ?? Math.max(1, Math.floor(FINAL_SHARE * totalSteps)),
  };
}

function controllerOf({ method, config, layers }: Adapter, plan: TrainPlan | undefined): Controller | undefined {
  if (!method.controller) return undefined;
  if (plan) return method.controller(layers, config, plan);
  throw new ConfigError(
    `${method.name} needs to know how many steps there will be: give fitDataset its batchesPerEpoch, or attachLayers { plan: { totalSteps } }`,
    'plan',
  );
}
