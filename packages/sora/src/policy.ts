import { createRng, type AdapterLayers, type HostTensors, type TrainPlan } from '@peftjs/core/method';
import {
  allocatedCost,
  pruneStep,
  rankCostIn,
  rankedPaths,
  ranksByPath,
  rankValues,
  scoredRanks,
  type RankDecision,
  type RankPolicy,
  type RankReading,
  type RankScores,
  type ScoredRank,
} from '@peftjs/core/ranks';
import { choiceOf, drawsRanks, type SoraConfig } from './config.js';
import { importances, liveCost, randomScores, selectGates, shrinkageFor } from './gates.js';
import { gateRate, thresholdAt } from './proximal.js';
import { separated } from './separation.js';
import { warnOfShortRun } from './short-run.js';

/**
 * Sets the threshold of the proximal step, as configured or to meet a budget, and removes pruned ranks if configured.
 */
export function soraPolicy(config: SoraConfig, plan: TrainPlan, layers: AdapterLayers): RankPolicy {
  return typeof config.budget === 'number'
    ? budgetPolicy(layers, config, config.budget, plan)
    : fixedPolicy(layers, config, plan);
}

/** What separation reads, and importance. */
const RANKS = ['gate', 'loraA', 'loraB'];

function fixedPolicy(layers: AdapterLayers, config: SoraConfig, plan: TrainPlan): RankPolicy {
  const { compactEvery, sparseLambda } = config;
  const { warmupSteps, totalSteps } = plan;
  warnOfShortRun(layers, config, plan, totalSteps);
  const gated = rankedPaths(layers).length > 0; // without gates there is no 'gate' group and so no learning rate for it
  const separation = separationStep(config, plan, totalSteps);
  const compacts = (step: number): boolean => compactEvery !== null && step > warmupSteps && step % compactEvery === 0;
  return {
    cuts: [],
    scalars(step, rates) {
      const lambda = step > (separation ?? 0) ? sparseLambda : 0;
      return { threshold: gated ? thresholdAt(config, lambda, rates) : 0 };
    },
    reads: (step) => (step === separation ? RANKS : compacts(step) ? ['gate'] : []),
    decide: ({ step, layers, values }) =>
      step === separation ? separatedRanks(layers, values) : compaction(layers, values),
  };
}

/** When ranks are separated, as a fraction of the way from the end of warm-up to the choice of ranks. */
const SEPARATION = 0.5;

/** Returns the step after which ranks are separated, or null for never. */
function separationStep(config: SoraConfig, { warmupSteps }: TrainPlan, until: number): number | null {
  if (!choiceOf(config).separation || drawsRanks(config)) return null;
  const step = warmupSteps + Math.floor(SEPARATION * (until - warmupSteps));
  return step >= 1 && step < until ? step : null;
}

/** The separated ranks. The optimizer restarts, because its moments belong to the old ranks. */
function separatedRanks(layers: AdapterLayers, values: HostTensors): RankDecision {
  return { values: separated(layers, values), restartsOptimizer: true };
}

/*
 * Budgeted SoRA (ours). Three phases:
 *
 *   warm-up    The threshold is 0: nothing is pruned before gates have learned anything. With `separation`, this phase
 *              lasts until the ranks are separated (separation.ts).
 *   steering   Every few steps the gates are read, and lambda is set so that the live ranks' parameters follow half a
 *              cosine from all of them down to the budget. lambda is the larger of two values:
 *                forward  the shrinkage that prunes as many gates by the next reading as the schedule asks for;
 *                hold     a level that rises while too many parameters are live and falls while too few are. The
 *                         optimizer moves a gate by up to its learning rate per step, so a pruned gate stays pruned
 *                         near lambda = 1 and may come back at lower values.
 *   final      First the ranks are selected exactly (gates.ts). From then on the mask holds in the graph and the
 *              threshold is 0. Only now may pruned ranks leave the tensors (`compaction`): until the selection, a
 *              pruned gate may still be needed to fill the budget. If ranks were separated, the gates that stay get
 *              back what the thresholds took from them: L1 chooses the ranks, and the chosen ones are then fitted
 *              without it, as in the relaxed lasso (Meinshausen, 2007, Comput. Stat. Data Anal. 52). Without this, the
 *              weakest of them would have almost no effect.
 *
 * `selection: 'random'` (a control) draws the mask instead. It uses no threshold, which would prune by size: all gates
 * stay live until the mask is drawn.
 */

/** The number of gate readings in the steering phase, and the most steps between two of them. */
const GATE_READINGS = 40;
const MAX_INTERVAL = 5;

/**
 * `hold`: its initial value, its gain on a positive and on a negative error (a share of the surplus), and its maximum.
 */
const HOLD = { initial: 0.5, up: 0.5, down: 0.1, most: 4 };

/** Steers the threshold so that the adapter stores `budget` parameters in the final phase. */
function budgetPolicy(
  layers: AdapterLayers,
  config: SoraConfig,
  budget: number,
  plan: TrainPlan,
): RankPolicy<Steering> {
  const until = pruneStep(plan);
  const separation = separationStep(config, plan, until);
  const schedule = budgetSchedule(separation ?? plan.warmupSteps, until, budget);
  const steers = (step: number): boolean =>
    config.selection === 'importance' &&
    step >= schedule.from &&
    step < until &&
    (step - schedule.from) % schedule.interval === 0;
  warnOfShortRun(layers, config, plan, until);
  return {
    cuts: [until],
    memory: { alive: 0, lambda: 0, hold: HOLD.initial, learningRate: 0, taken: 0 },
    scalars(step, rates, memory) {
      memory.learningRate = gateRate(rates);
      const threshold = step > until ? 0 : thresholdAt(config, memory.lambda, rates);
      if (separation !== null) memory.taken += threshold;
      return { threshold };
    },
    reads: (step) => (step === until || step === separation ? RANKS : steers(step) ? ['gate'] : []),
    decide(at, memory) {
      const { step, layers, values } = at;
      if (step === until) {
        const selected = selectGates(layers, values, scoresOf(at, config, plan), budget, memory.taken);
        return { values: selected, ...(config.compactEvery !== null && compaction(layers, selected)) };
      }
      const changes = step === separation ? separatedRanks(layers, values) : {};
      const gates = gatesOf(layers, { ...values, ...changes.values });
      Object.assign(memory, steer(gates, step, schedule, memory, config));
      return changes;
    },
  };
}

/** The steering phase's schedule: how many parameters may be live after each step. */
interface BudgetSchedule {
  /** The first step whose gates are read. */
  readonly from: number;
  /** Steps between two readings. */
  readonly interval: number;
  /** The parameters to store at the end. */
  readonly budget: number;
  /**
   * Returns the fraction of the surplus over the budget that may still be live after a step: 1 at `from`, 0 at the end.
   */
  share(step: number): number;
}

function budgetSchedule(from: number, until: number, budget: number): BudgetSchedule {
  const length = Math.max(1, until - from);
  return {
    from,
    interval: Math.min(MAX_INTERVAL, Math.max(1, Math.round(length / GATE_READINGS))),
    budget,
    share(step) {
      const progress = Math.min(1, Math.max(0, (step - from) / length));
      return 0.5 * (1 + Math.cos(Math.PI * progress));
    },
  };
}

function scoresOf({ layers, values, of, cost }: RankReading, config: SoraConfig, { seed = 0 }: TrainPlan): RankScores {
  return config.selection === 'importance'
    ? importances(layers, values)
    : randomScores(of('gate'), cost, createRng(seed).fork('selection'));
}

/** Returns the gates of all ranks. */
function gatesOf(layers: AdapterLayers, values: HostTensors): ScoredRank[] {
  return scoredRanks(rankValues(layers, values, 'gate'), rankCostIn(layers));
}

/** What steering remembers from one reading to the next. */
interface Steering extends Record<string, number> {
  /**
   * Live parameters at the first reading; 0 before it. A run that continues an earlier one may start with pruned gates.
   */
  alive: number;
  /** lambda (or xi). */
  lambda: number;
  /** The level that corrects for past errors, in units of the learning rate. */
  hold: number;
  /** The gates' learning rate at the last step. */
  learningRate: number;
  /** The sum of all thresholds so far; stays 0 if ranks are not separated. */
  taken: number;
}

function steer(
  gates: readonly ScoredRank[],
  step: number,
  { interval, budget, share }: BudgetSchedule,
  { alive: first, hold: before, learningRate }: Steering,
  config: SoraConfig,
): Pick<Steering, 'alive' | 'lambda' | 'hold'> {
  const alive = liveCost(gates);
  const initial = first || alive;
  const surplus = Math.max(0, initial - budget);
  const target = (at: number): number => Math.min(budget, initial) + surplus * share(at);
  const error = surplus === 0 ? 0 : (alive - target(step)) / surplus;
  const hold = Math.min(HOLD.most, Math.max(0, before + (error > 0 ? HOLD.up : HOLD.down) * error));
  const forward = shrinkageFor(gates, alive - target(step + interval)) / interval;
  const threshold = surplus === 0 || learningRate === 0 ? 0 : Math.max(hold * learningRate, forward);
  const lambda = config.thresholdMode === 'lr' && threshold > 0 ? threshold / learningRate : threshold;
  return { alive: initial, lambda, hold };
}

/*
 * Compaction removes ranks whose gates are zero from the tensors, together with their moments. The outputs do not
 * change, since these ranks add nothing; the scaling stays alpha / r_max; a removed rank cannot come back. The step is
 * recompiled for every batch shape, so removal has to pay off: with a share of 1/4, a run that ends with one rank in n
 * has compiled at most log(n) / log(4/3) times, seven for n = 8.
 */

/** The share of the allocated parameters that must be pruned before compaction pays off. */
const MIN_PRUNED_SHARE = 0.25;

/**
 * Removes pruned ranks from the layers if there are enough of them. Does nothing if all ranks are pruned, because
 * nothing would be left to train.
 * @param values the gates of every layer that has ranks, `<path>.gate` [r]
 */
function compaction(layers: AdapterLayers, values: HostTensors): RankDecision {
  const gates = gatesOf(layers, values);
  const [held, live] = [allocatedCost(layers), liveCost(gates)];
  if (live === 0 || live === held || held - live < MIN_PRUNED_SHARE * held) return {};
  const kept = gates.filter(({ value }) => value !== 0);
  return { kept: ranksByPath(rankedPaths(layers), kept) };
}
