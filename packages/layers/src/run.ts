import {
  ConfigError,
  createRng,
  warnOnce,
  type AdapterLayers,
  type Controller,
  type Rng,
  type TrainPlan,
} from '@peftjs/core/method';
import type { Adapter } from '@peftjs/core/model';
import { trainedAdapter, type Attachment } from './attachment.js';

/** Options of training adapters with the model's own `fit`. */
export interface FitOptions {
  /**
   * The plan of a training run, if it differs from the arguments of `fit`. With `totalSteps`, one run spans several
   * calls of `fit`, `fitDataset` or `trainOnBatch`; without it, each call is a run. Default: the first 6 % of the steps
   * are warm-up, and the budget holds in the last 30 %.
   */
  readonly plan?: Partial<TrainPlan>;
  /** Factors of the optimizer's learning rate for groups of parameters, e.g. `gate` or `head`. Default 1. */
  readonly rateFactors?: Readonly<Record<string, number>>;
}

/** The latest training run of a model. */
export interface Run extends Required<Pick<FitOptions, 'rateFactors'>> {
  /** The layers that it trains. */
  readonly layers: AdapterLayers;
  /** The method's controller, if it has one. */
  readonly controller: Controller | undefined;
  /** The plan; undefined if the number of steps is unknown. */
  readonly plan: TrainPlan | undefined;
  /** The source of dropout's random numbers, forked by the number of each step, counted over all runs. */
  readonly noise: Rng;
  /** The number of steps in earlier runs. */
  readonly before: number;
  /** The number of steps in this run. */
  step: number;
}

const WARMUP_SHARE = 0.06;
const FINAL_SHARE = 0.3;

/**
 * Returns the run that a call of `fit` belongs to: the previous one if `totalSteps` is given and not reached, else a
 * new one.
 * @param steps The number of steps of this call, if known.
 * @throws ConfigError when there is not exactly one active adapter, or its method needs the number of steps and it is
 * unknown.
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
  const continues = former?.layers === adapter.layers && former.step < (given.totalSteps ?? 0);
  if (continues) return former;
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

/** Warns if a run ended before the adapter met its budget. */
export function warnIfUnfinished({ controller, plan, step }: Run): void {
  if (!controller || !plan || step >= plan.totalSteps || controller.holdsBudget(step)) return;
  warnOnce(`training stopped after ${step} of ${plan.totalSteps} steps: the adapter does not meet its budget yet`);
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
    `${method.name} needs the number of steps: pass batchesPerEpoch to fitDataset, or { plan: { totalSteps } } to attachLayers`,
    'plan',
  );
}
