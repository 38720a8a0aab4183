import {
  allocatedRanks,
  assertCuttable,
  createRng,
  cutStep,
  allocatedCost,
  keepRanks,
  missedCut,
  rankedPaths,
  withRankCounts,
  withResized,
  type AdapterContents,
  type AdapterLayers,
  type Controller,
  type ControllerChanges,
  type HostTensors,
  type OfRanks,
  type TrainPlan,
} from '@peftjs/core/method';
import { choiceOf, type SoraConfig } from './config.js';
import {
  drawnWorths,
  gateGroups,
  gateNames,
  importances,
  liveCost,
  rankNames,
  selectGates,
  shrinkageFor,
  type GateGroup,
} from './gates.js';
import { gateRate, thresholdAt } from './layer.js';
import { separated } from './separation.js';
import { warnOfShortTravel } from './travel.js';

/** Feeds the threshold of the proximal step: as configured, or as a budget demands. Removes dead ranks if told to. */
export function soraController(layers: AdapterLayers, config: SoraConfig, plan: TrainPlan): Controller {
  return typeof config.budget === 'number'
    ? budgetController(layers, config, config.budget, plan)
    : fixedController(layers, config, plan);
}

function fixedController(layers: AdapterLayers, config: SoraConfig, plan: TrainPlan): Controller {
  const { compactEvery, sparseLambda } = config;
  const { warmupSteps, totalSteps } = plan;
  warnOfShortTravel(layers, config, plan, totalSteps);
  const gated = rankedPaths(layers).length > 0; // without gates there is no group of them, and no learning rate
  const separation = separationStep(config, plan, totalSteps);
  const compacts = (step: number): boolean => compactEvery !== null && step > warmupSteps && step % compactEvery === 0;
  let held = layers;
  return {
    scalars(step, rates) {
      const lambda = step > (separation ?? 0) ? sparseLambda : 0;
      return { threshold: gated ? thresholdAt(config, lambda, rates) : 0 };
    },
    reads: (step) => (step === separation ? rankNames(held) : compacts(step) ? gateNames(held) : []),
    afterStep(step, values) {
      if (step === separation) return separationChanges(held, values);
      const changes = compaction(held, values);
      held = withResized(held, changes.resized);
      return changes;
    },
    holdsBudget: () => true,
    snapshot: () => ({ ranks: Object.values(held).map(allocatedRanks) }),
    restore({ ranks }) {
      if (Array.isArray(ranks)) held = withRankCounts(layers, ranks as readonly number[]);
    },
  };
}

/** Where between the warm-up and the choice of ranks they are separated: the steps before are to learn in, those after to choose. */
const SEPARATION = 0.5;

/** The step after which ranks are separated, null for never. */
function separationStep(config: SoraConfig, { warmupSteps }: TrainPlan, until: number): number | null {
  if (!choiceOf(config).separation || config.selection === 'random') return null;
  const step = warmupSteps + Math.floor(SEPARATION * (until - warmupSteps));
  return step >= 1 && step < until ? step : null;
}

/** The optimizer begins again: its moments are of other ranks. */
function separationChanges(layers: AdapterLayers, values: HostTensors): ControllerChanges {
  return { values: separated(layers, values), restartsOptimizer: true };
}

/*
 * Budgeted SoRA (ours). Three phases:
 *
 *   warm-up            threshold 0: nothing is pruned before there is anything to judge by. With `separation` this phase goes on
 *                      until ranks are separated (separation.ts).
 *   steering           every few steps the gates are read and lambda is set so that what they store follows half a cosine
 *                      from everything down to the budget. Two demands, the greater one counts:
 *                        forward  the shrinkage that takes as many gates to zero by the next reading as the curve asks;
 *                        hold     a level that rises while too much is alive and falls while too little is. The optimizer
 *                                 moves a gate by up to its learning rate, so a dead gate stays dead near lambda = 1 and
 *                                 may come back below.
 *   final              at its beginning the ranks are selected exactly (gates.ts); the mask then holds in the graph, and the
 *                      threshold is 0. Ranks ruled out may then leave the tensors (`compaction`), not before: until here a
 *                      dead gate may be needed to fill the budget. Where ranks were separated, the gates that stay get back
 *                      what thresholds took: L1 chooses, and what it chose is fitted without it, as in the relaxed lasso
 *                      (Meinshausen, 2007, Comput. Stat. Data Anal. 52). The weakest of them would hardly act otherwise.
 *
 * The control with `selection: 'random'` draws the mask instead. It does not steer, for what a threshold takes is chosen by size:
 * all gates live until the mask falls.
 */

/** Readings in the steering phase, and the most steps between two of them. */
const READINGS = 40;
const MAX_INTERVAL = 5;

/** Where `hold` starts, how fast it follows the error (a share of what has to go) up and down, and where it ends. */
const HOLD = { initial: 0.5, up: 0.5, down: 0.1, most: 4 };

/**
 * Drives the threshold so that the adapter stores `budget` parameters in the final steps.
 * @throws ConfigError when there are more parameters asked for than r_max stores, fewer than one rank does, or no step to
 * prune in.
 */
function budgetController(layers: AdapterLayers, config: SoraConfig, budget: number, plan: TrainPlan): Controller {
  assertCuttable(layers, budget, plan);
  const until = cutStep(plan);
  const separation = separationStep(config, plan, until);
  const course = steeringCourse(separation ?? plan.warmupSteps, until, budget);
  const steers = (step: number): boolean =>
    config.selection === 'importance' &&
    step >= course.from &&
    step < until &&
    (step - course.from) % course.interval === 0;
  warnOfShortTravel(layers, config, plan, until);
  const memory = { alive: 0, lambda: 0, hold: HOLD.initial, learningRate: 0, taken: 0, frozen: false };

  return {
    scalars(step, rates) {
      memory.learningRate = gateRate(rates);
      if (step > until && !memory.frozen) throw missedCut("SoRA's budget was not applied", step, until);
      const threshold = memory.frozen ? 0 : thresholdAt(config, memory.lambda, rates);
      if (separation !== null) memory.taken += threshold;
      return { threshold };
    },
    reads(step) {
      if (step === until || step === separation) return rankNames(layers);
      return steers(step) ? gateNames(layers) : [];
    },
    afterStep(step, values): ControllerChanges | undefined {
      if (step === until) {
        memory.frozen = true;
        const worth = worthOf(layers, values, config, plan);
        const selected = selectGates(layers, values, worth, budget, memory.taken);
        return { values: selected, ...(config.compactEvery !== null && compaction(layers, selected)) };
      }
      const changes = step === separation ? separationChanges(layers, values) : undefined;
      Object.assign(memory, steer(gateGroups(layers, { ...values, ...changes?.values }), step, course, memory, config));
      return changes;
    },
    holdsBudget: (step) => memory.frozen && step >= until,
    snapshot: () => ({ ...memory }),
    restore: (state) => void Object.assign(memory, state),
  };
}

/** How much may be alive when. */
interface Course {
  /** First step whose gates are read. */
  readonly from: number;
  /** Steps between two readings. */
  readonly interval: number;
  readonly budget: number;
  /** The share of what has to go by `until` that may be alive after a step. */
  share(step: number): number;
}

function steeringCourse(from: number, until: number, budget: number): Course {
  const length = Math.max(1, until - from);
  return {
    from,
    interval: Math.min(MAX_INTERVAL, Math.max(1, Math.round(length / READINGS))),
    budget,
    share(step) {
      const progress = Math.min(1, Math.max(0, (step - from) / length));
      return 0.5 * (1 + Math.cos(Math.PI * progress));
    },
  };
}

function worthOf(layers: AdapterLayers, values: HostTensors, config: SoraConfig, { seed = 0 }: TrainPlan): OfRanks {
  return config.selection === 'importance'
    ? importances(layers, values)
    : drawnWorths(layers, createRng(seed).fork('selection'));
}

/** What steering remembers from reading to reading. */
interface Steering {
  /** What was alive at the first reading; 0 before. A run that goes on from an earlier one may begin with dead gates. */
  readonly alive: number;
  /** lambda (or xi). */
  readonly lambda: number;
  readonly hold: number;
}

function steer(
  groups: readonly GateGroup[],
  step: number,
  { interval, budget, share }: Course,
  { alive: first, hold: before, learningRate }: Steering & { readonly learningRate: number },
  config: SoraConfig,
): Steering {
  const alive = liveCost(groups);
  const atFirst = first || alive;
  const surplus = Math.max(0, atFirst - budget);
  const target = (at: number): number => Math.min(budget, atFirst) + surplus * share(at);
  const error = surplus === 0 ? 0 : (alive - target(step)) / surplus;
  const hold = Math.min(HOLD.most, Math.max(0, before + (error > 0 ? HOLD.up : HOLD.down) * error));
  const forward = shrinkageFor(groups, alive - target(step + interval)) / interval;
  const threshold = surplus === 0 || learningRate === 0 ? 0 : Math.max(hold * learningRate, forward);
  const lambda = config.thresholdMode === 'lr' && threshold > 0 ? threshold / learningRate : threshold;
  return { alive: atFirst, lambda, hold };
}

/*
 * Compaction: ranks whose gates are zero leave the tensors, and so do their moments. They add nothing to the outputs, which
 * therefore stay as they are; the scaling stays alpha / r_max; a rank that has left does not come back. The step is compiled
 * anew for every batch shape, so it has to pay: with a share of 1/4 a run that ends with one rank in n has gone through
 * at most log(n) / log(4/3) compilations, seven for n = 8.
 */

/** The share of the tensors held, in parameters, that has to be dead. */
const WORTHWHILE = 0.25;

/**
 * Takes dead ranks out of the layers, where they are enough to be worth it. Where every rank is dead there would be nothing to
 * train, and nothing changes.
 * @param values the gates of every layer that has ranks, `<path>.gate` [ranks]
 */
function compaction(layers: AdapterLayers, values: HostTensors): Pick<ControllerChanges, 'resized'> {
  const groups = gateGroups(layers, values);
  const [held, live] = [allocatedCost(layers), liveCost(groups)];
  if (live === 0 || live === held || held - live < WORTHWHILE * held) return {};
  return { resized: keepRanks(layers, Object.fromEntries(groups.map(({ path, gate }) => [path, liveRanks(gate)]))) };
}

/** The layers that values of a later step fit. @throws CheckpointError when they have ranks that a layer does not. */
export function resumedLayers({ layers, values }: AdapterContents<SoraConfig>): AdapterLayers {
  return withRankCounts(
    layers,
    Object.keys(layers).map((path) => values[`${path}.gate`]?.data.length ?? 0),
  );
}

function liveRanks(gate: Float32Array): number[] {
  return [...gate.keys()].filter((rank) => gate[rank] !== 0);
}
