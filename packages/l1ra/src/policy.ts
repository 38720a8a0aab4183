import {
  assertStartFits,
  dealRanks,
  floats,
  pruneStep,
  rankCostIn,
  ranksThatFill,
  warnOnce,
  type AdapterLayers,
  type HostTensors,
  type RankPolicy,
  type TrainPlan,
} from '@peftjs/core/method';
import type { L1raConfig } from './config.js';

/*
 * After the warm-up, ranks are pruned and reassigned at intervals of `rankUpdateRatio` of the run, and the optimizer
 * restarts.
 *
 * With a budget (ours), the last reassignment comes before the final phase and fills the budget. From then on no gate
 * reaches zero, so that the number of stored parameters does not change.
 */

/** Returns L1RA's policy. @throws ConfigError for a budget that the initial ranks exceed. */
export function l1raPolicy(
  layers: AdapterLayers,
  config: L1raConfig,
  plan: TrainPlan,
): RankPolicy<{ hasPruned: boolean }> {
  const { budget } = config;
  if (budget !== null) assertStartFits(layers, budget);
  const every = Math.max(1, Math.floor(config.rankUpdateRatio * plan.totalSteps));
  const last = budget === null ? plan.totalSteps - 1 : pruneStep(plan);
  const lastLook = budget === null ? last - (last % every) : last;
  const isDue = (step: number): boolean => step % every === 0 && step > plan.warmupSteps && step <= last;
  return {
    cuts: budget === null ? [] : [last],
    holdsFrom: budget === null ? 0 : last + 1,
    memory: { hasPruned: false },
    scalars: (step) => ({ leastGate: budget !== null && step > last ? LEAST_GATE : 0 }),
    reads: (step) => (isDue(step) || (budget !== null && step === last) ? ['gate'] : []),
    decide({ step, layers, values }, memory) {
      const gates = gatesOf(values);
      const isFilling = budget !== null && step === last;
      const decided = isFilling ? filled(layers, gates, config, budget) : reassigned(layers, gates, config);
      memory.hasPruned ||= rankCount(decided.kept) < rankCount(gates);
      if (!memory.hasPruned && step === lastLook) warnOnce(nothingMoved(gates, config, plan));
      return { ...decided, restartsOptimizer: true };
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
  return {
    kept,
    added: dealRanks(receivers, { count, room: roomFor(config, layers, kept), cost: rankCostIn(layers) }),
  };
}

/** Does the same as `reassigned`, and then adds ranks to any modules that fill the rest of the budget. */
function filled(layers: AdapterLayers, gates: Gates, config: L1raConfig, budget: number): Reassignment {
  const kept = keptRanks(gates, config.pruneThreshold);
  const cost = rankCostIn(layers);
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
  const cost = rankCostIn(layers);
  return budget - Object.entries(kept).reduce((sum, [path, ranks]) => sum + ranks.length * cost(path), 0);
}

function rankCount(ranks: Gates | Reassignment['kept']): number {
  return Object.values(ranks).reduce((sum, each) => sum + each.length, 0);
}
