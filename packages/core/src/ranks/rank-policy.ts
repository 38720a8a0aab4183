import type { Controller, ControllerChanges, ControllerState, TrainPlan } from '../contracts/controller.js';
import type { AdapterLayers } from '../contracts/layer.js';
import { TrainingError } from '../errors.js';
import { createRng, type Rng } from '../rng.js';
import { floats, mapValues, tensorAt, type HostTensors } from '../tensors.js';
import { allocatedRanks, changeRanks, rankedPaths, withResized, type RankChange } from './changes.js';
import { rankCostIn, type RankCost } from './competition.js';

/**
 * Decides between the steps of one run which ranks stay. All that it remembers is in `memory`, plain data that
 * checkpoints hold.
 */
export interface RankPolicy<M extends ControllerState = ControllerState> {
  /** Steps after which it must decide: training does not pass them without it. */
  readonly cuts: readonly number[];
  /** The adapter is within its budget from this step on. Default: the last of `cuts`, or 0 without any. */
  readonly holdsFrom?: number;
  /** The number of training rows to hold out for `probes`. Default 0. */
  readonly probeRows?: number;
  /** What it remembers at the start; `scalars` and `decide` assign to it. Default {}. */
  readonly memory?: M;
  /** Returns the names of the tensors of each module to read after a step, e.g. `gate`; none for most steps. */
  reads(step: number): readonly string[];
  /** Returns the scalars that the compiled step reads, for step 1, 2, ..; always the same names. Default: none. */
  scalars?(step: number, learningRates: Readonly<Record<string, number>>, memory: M): Record<string, number>;
  /** As `Controller.probes`, for the steps after which tensors are read. */
  probes?(values: HostTensors): Readonly<Record<string, HostTensors>>;
  /** Returns what changes after a step whose tensors it asked for. */
  decide(at: RankReading, memory: M): RankDecision;
}

/** What a policy decides on. */
export interface RankReading {
  /** The step that has ended. */
  readonly step: number;
  /** The layers, with the ranks that they have now. */
  readonly layers: AdapterLayers;
  /** The tensors that the policy reads, by `<path>.<name>`, for every module that has ranks. */
  readonly values: HostTensors;
  /** Returns one of these tensors of every module that has ranks, by path. @throws ShapeError when one is missing. */
  readonly of: (name: string) => Record<string, Float32Array>;
  /** The parameters that one rank of a module stores. */
  readonly cost: RankCost;
  /** The losses of the probes, by name. */
  readonly losses: Readonly<Record<string, number>>;
  /** A random stream of this step. */
  readonly rng: Rng;
}

/** Returns a tensor of every layer that has ranks, by path. @throws ShapeError when one is missing. */
export function rankValues(layers: AdapterLayers, values: HostTensors, name: string): Record<string, Float32Array> {
  return Object.fromEntries(rankedPaths(layers).map((path) => [path, floats(tensorAt(values, `${path}.${name}`))]));
}

/** What a policy changes. */
export interface RankDecision extends Pick<ControllerChanges, 'values' | 'resized'> {
  /** The ranks that modules keep, by path and in their new order. Modules left out keep all. */
  readonly kept?: Readonly<Record<string, readonly number[]>>;
  /**
   * New ranks of modules in `kept`: how many, which start as ranks do, or their tensors. Their moments start at zero.
   */
  readonly added?: Readonly<Record<string, number | HostTensors>>;
  /** Whether the optimizer restarts if ranks change or values are set. Default false. */
  readonly restartsOptimizer?: boolean;
}

/** How a method makes ranks. */
export interface RankMaker {
  /** The method's name, for errors. */
  readonly name: string;
  /** Returns the tensors of new ranks of a module. */
  newRanks(path: string, count: number, rng: Rng): HostTensors;
  /** Returns the run's first layers with these numbers of ranks, in their order. */
  withRanks(counts: readonly number[]): AdapterLayers;
}

/** Returns the controller that follows a policy. */
export function rankController<M extends ControllerState>(
  layers: AdapterLayers,
  policy: RankPolicy<M>,
  { name, newRanks, withRanks }: RankMaker,
  { seed = 0 }: TrainPlan,
): Controller {
  const { cuts, holdsFrom = cuts.at(-1) ?? 0, probeRows, probes } = policy;
  const memory = { ...policy.memory } as M;
  const drawn = createRng(seed).fork('new ranks');
  let held = layers;
  let decided: number | null = 0; // the last step whose ranks are decided; null right after a restart
  const changesOf = ({ kept = {}, added = {} }: RankDecision, rng: Rng): Record<string, RankChange> =>
    mapValues(kept, (ranks, path) => {
      const more = added[path] ?? 0;
      if (more === 0) return { kept: ranks };
      return { kept: ranks, added: typeof more === 'number' ? newRanks(path, more, rng.fork(path)) : more };
    });
  const missedBefore = (step: number): number | undefined =>
    rankedPaths(held).length > 0 ? cuts.find((cut) => cut > (decided ?? step) && cut < step) : undefined;
  return {
    ...(probeRows !== undefined && { probeRows }),
    scalars(step, learningRates) {
      decided ??= step - 1;
      const missed = missedBefore(step);
      if (missed !== undefined) throw missedStep(name, step, missed);
      return policy.scalars?.(step, learningRates, memory) ?? {};
    },
    reads(step) {
      const names = policy.reads(step);
      return rankedPaths(held).flatMap((path) => names.map((tensor) => `${path}.${tensor}`));
    },
    ...(probes && { probes: (step, values) => (policy.reads(step).length > 0 ? probes(values) : {}) }),
    afterStep(step, values, losses = {}) {
      const rng = drawn.fork(String(step));
      const of = (tensor: string): Record<string, Float32Array> => rankValues(held, values, tensor);
      const reading = { step, layers: held, values, of, cost: rankCostIn(held), losses, rng };
      const decision = policy.decide(reading, memory);
      const { restartsOptimizer } = decision;
      const resized = { ...changeRanks(held, changesOf(decision, rng)), ...decision.resized };
      const hasResized = Object.keys(resized).length > 0;
      held = withResized(held, resized);
      decided = step;
      return {
        ...(decision.values && { values: decision.values }),
        ...(hasResized && { resized }),
        ...((hasResized || decision.values) && restartsOptimizer !== undefined && { restartsOptimizer }),
      };
    },
    holdsBudget: (step) => step >= holdsFrom && missedBefore(step + 1) === undefined,
    snapshot: () => ({ ranks: Object.values(held).map(allocatedRanks), ...memory }),
    restore({ ranks, ...state }) {
      if (Array.isArray(ranks)) held = withRanks(ranks as readonly number[]);
      const known = Object.entries(state).filter(([key]) => key in memory);
      Object.assign(memory, Object.fromEntries(known));
      decided = null;
    },
  };
}

/** Returns the error for a training loop that never called the controller, so that ranks were not chosen when due. */
function missedStep(name: string, step: number, due: number): TrainingError {
  return new TrainingError(
    `${name} did not choose its ranks: step ${step} begins, but 'afterStep' was not called after step ${due}`,
    String(step),
  );
}
