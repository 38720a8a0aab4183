import {
  assertStartFits,
  changeRanks,
  createRng,
  dealRanks,
  pruneStep,
  floats,
  allocatedRanks,
  missedStep,
  rankCost,
  ranksThatFill,
  tensorAt,
  warnOnce,
  withResized,
  type AdapterContents,
  type AdapterLayers,
  type Controller,
  type ControllerChanges,
  type HostTensors,
  type RankChange,
  type RankCost,
  type Rng,
  type TrainPlan,
} from '@peftjs/core/method';
import type { L1raConfig } from './config.js';
import { l1raLayer, newRanks } from './layer.js';

/*
 * After the warm-up, ranks are pruned and reassigned at intervals of `rankUpdateRatio` of the run, and the optimizer
 * restarts.
 *
 * With a budget (ours), the last reassignment comes before the final phase and fills the budget. From then on no gate
 * reaches zero, so that the number of stored parameters does not change.
 */

/** Returns L1RA's controller. @throws ConfigError for a budget that the initial ranks exceed. */
export function l1raController(layers: AdapterLayers, config: L1raConfig, plan: TrainPlan): Controller {
  const { budget } = config;
  if (budget !== null) assertStartFits(layers, budget);
  const every = Math.max(1, Math.floor(config.rankUpdateRatio * plan.totalSteps));
  const last = budget === null ? plan.totalSteps - 1 : pruneStep(plan);
  const lastLook = budget === null ? last - (last % every) : last;
  const isFilling = (step: number): boolean => budget !== null && step === last;
  const isDue = (step: number): boolean => step % every === 0 && step > plan.warmupSteps && step <= last;
  const rng = createRng(plan.seed ?? 0).fork('new ranks');
  let [held, isFilled, hasPruned] = [layers, false, false];
  return {
    scalars(step) {
      const isFinal = budget !== null && step > last;
      if (isFinal && !isFilled) throw missedStep("L1RA's budget was not filled", step, last);
      return { leastGate: isFinal ? LEAST_GATE : 0 };
    },
    reads: (step) => (isDue(step) || isFilling(step) ? Object.keys(held).map((path) => `${path}.gate`) : []),
    afterStep(step, values) {
      const gates = gatesOf(values);
      const decided = isFilling(step) ? filled(held, gates, config, budget ?? 0) : reassigned(held, gates, config);
      hasPruned ||= rankCount(decided.kept) < rankCount(gates);
      if (!hasPruned && step === lastLook) warnOnce(nothingMoved(gates, config, plan));
      const changes = changesFor(held, decided, config, rng.fork(String(step)));
      held = withResized(held, changes.resized);
      isFilled ||= isFilling(step);
      return changes;
    },
    holdsBudget: (step) => budget === null || step > last,
    snapshot: () => ({ ranks: Object.values(held).map(allocatedRanks), isFilled, hasPruned }),
    restore(state) {
      if (Array.isArray(state.ranks)) held = layersOfRanks(layers, config, state.ranks as readonly number[]);
      isFilled = state.isFilled === true;
      hasPruned = state.hasPruned === true;
    },
  };
}

/** The smallest gate of the final phase with a budget: small enough to change no output. */
const LEAST_GATE = 1e-10;

function nothingMoved(gates: Gates, { etaC, l1raLambda }: L1raConfig, { totalSteps }: TrainPlan): string {
  if (Object.values(gates).every(({ length }) => length < 2)) {
    return 'l1ra: every module has one rank, and the last rank of a module never moves; start with more';
  }
  const shrinkage = (etaC * l1raLambda * totalSteps).toPrecision(2);
  return `l1ra: no gate reached zero in ${totalSteps} steps, so no rank moved; train longer, or raise l1raLambda (${l1raLambda} shrinks a gate by ${shrinkage} in such a run)`;
}

/** Resizes layers to the values of a later step or a file. Ranks may have come and gone. */
export function resumedLayers({ layers, config, values }: AdapterContents<L1raConfig>): AdapterLayers {
  const ranks = Object.keys(layers).map((path) => values[`${path}.gate`]?.data.length ?? 0);
  return layersOfRanks(layers, config, ranks);
}

function changesFor(
  layers: AdapterLayers,
  { kept, added }: Reassignment,
  config: L1raConfig,
  rng: Rng,
): ControllerChanges {
  const changes = Object.entries(kept).map(([path, ranks]): [string, RankChange] => {
    const count = added[path] ?? 0;
    if (count === 0) return [path, { kept: ranks }];
    return [path, { kept: ranks, added: newRanks(tensorAt(layers, path).site, count, config, rng.fork(path)) }];
  });
  const resized = changeRanks(layers, Object.fromEntries(changes));
  return Object.keys(resized).length === 0 ? {} : { resized, restartsOptimizer: true };
}

function layersOfRanks(layers: AdapterLayers, config: L1raConfig, ranks: readonly number[]): AdapterLayers {
  const rng = createRng(0); // only shapes matter: the run's values replace these
  return Object.fromEntries(
    Object.entries(layers).map(([path, { site }], index) => [
      path,
      l1raLayer(site, config, newRanks(site, ranks[index] ?? 0, config, rng)),
    ]),
  );
}

function gatesOf(values: HostTensors): Gates {
  const suffix = '.gate'.length;
  return Object.fromEntries(Object.entries(values).map(([key, gate]) => [key.slice(0, -suffix), floats(gate, key)]));
}

/*
 * How ranks move, as in the released code:
 *
 *   A rank whose gate is below the threshold is pruned, unless it is the module's last one.
 *   The modules that lost none get one rank each in turn, those whose smallest gate is largest first, until as many are
 *   given as were pruned.
 *
 * With a budget, ranks cost the parameters that they store, and a module whose rank cannot be paid for is skipped.
 */
/** The gates of every module, [ranks], by path. */
type Gates = Readonly<Record<string, ArrayLike<number>>>;

/** The result of a reassignment. */
interface Reassignment {
  /** The ranks that each module keeps, by path. */
  readonly kept: Readonly<Record<string, readonly number[]>>;
  /** The number of new ranks of each module, by path. */
  readonly added: Readonly<Record<string, number>>;
}

/** Prunes ranks and gives as many to other modules, or with a budget as many as it pays for. */
function reassigned(layers: AdapterLayers, gates: Gates, config: L1raConfig): Reassignment {
  const kept = keptRanks(gates, config.pruneThreshold);
  if (!config.reassign) return { kept, added: {} };
  const receivers = receiversOf(gates, config);
  const pruned = rankCount(gates) - rankCount(kept);
  if (pruned === 0) return { kept, added: {} };
  const count = config.budget === null ? pruned : Infinity;
  return { kept, added: dealRanks(receivers, { count, room: roomFor(config, layers, kept), cost: costOf(layers) }) };
}

/** Does the same as `reassigned`, and then adds ranks to any modules that fill the rest of the budget. */
function filled(layers: AdapterLayers, gates: Gates, config: L1raConfig, budget: number): Reassignment {
  const kept = keptRanks(gates, config.pruneThreshold);
  const cost = costOf(layers);
  const room = roomFor({ budget }, layers, kept);
  const added = dealRanks(receiversOf(gates, config), { count: Infinity, room, cost });
  const left = room - Object.entries(added).reduce((sum, [path, count]) => sum + count * cost(path), 0);
  for (const path of ranksThatFill(Object.keys(layers), left, cost)) added[path] = (added[path] ?? 0) + 1;
  return { kept, added };
}

function keptRanks(gates: Gates, threshold: number): Record<string, number[]> {
  return Object.fromEntries(
    Object.entries(gates).map(([path, gate]) => {
      const ranks = Array.from(gate, (_, rank) => rank);
      const kept = ranks.filter((rank) => (gate[rank] as number) >= threshold);
      return [path, kept.length > 0 ? kept : ranks.slice(-1)];
    }),
  );
}

/** Returns the paths in the order in which modules get ranks. */
function receiversOf(gates: Gates, { pruneThreshold, excludePruned }: L1raConfig): string[] {
  const smallest = Object.entries(gates).map(([path, gate]) => ({ path, least: Math.min(...Array.from(gate)) }));
  return smallest
    .filter(({ least }) => !excludePruned || least >= pruneThreshold)
    .sort((a, b) => b.least - a.least) // stable: the first module comes first in a tie
    .map(({ path }) => path);
}

/** Returns the parameters of a budget that the kept ranks leave; Infinity without a budget. */
function roomFor({ budget }: Pick<L1raConfig, 'budget'>, layers: AdapterLayers, kept: Reassignment['kept']): number {
  if (budget === null) return Infinity;
  const cost = costOf(layers);
  return budget - Object.entries(kept).reduce((sum, [path, ranks]) => sum + ranks.length * cost(path), 0);
}

function costOf(layers: AdapterLayers): RankCost {
  return (path) => rankCost(tensorAt(layers, path).site);
}

function rankCount(ranks: Gates | Reassignment['kept']): number {
  return Object.values(ranks).reduce((sum, each) => sum + each.length, 0);
}
