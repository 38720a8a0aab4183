import { mapValues, warnOnce, type TrainPlan } from '@peftjs/core/method';
import { dealRanks, fillBudget, pruneStep, type RankPolicy } from '@peftjs/core/ranks';
import type { L1raConfig } from './config.js';

/*
 * After the warm-up, ranks move at intervals of `rankUpdateRatio` of the run, as in the released code, and the
 * optimizer restarts:
 *
 *   A rank whose gate is below the threshold is pruned, unless it is the module's last one.
 *   The modules that lost none get one rank each in turn, those whose smallest gate is largest first, until as many are
 *   given as were pruned.
 *
 * With a budget (ours), ranks cost the parameters that they store. The last reassignment then comes before the final
 * phase and fills the budget. From then on no gate reaches zero, so that the number of stored parameters stays.
 */

/** Returns L1RA's policy. */
export function l1raPolicy(config: L1raConfig, plan: TrainPlan): RankPolicy<{ hasPruned: boolean }> {
  const { budget, reassign } = config;
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
    decide({ step, of, cost }, memory) {
      const gates = of('gate');
      const kept = keptRanks(gates, config.pruneThreshold);
      const pruned = rankCount(gates) - rankCount(kept);
      memory.hasPruned ||= pruned > 0;
      if (!memory.hasPruned && step === lastLook) warnOnce(nothingMoved(gates, config, plan));
      const deal = { receivers: receiversOf(gates, config), cost };
      const changes = { kept, restartsOptimizer: true };
      if (budget !== null && step === last) {
        return { ...changes, added: fillBudget(kept, { ...deal, budget }, Object.keys(gates)) };
      }
      if (!reassign || pruned === 0) return changes;
      return { ...changes, added: dealRanks(kept, { ...deal, budget, count: budget === null ? pruned : Infinity }) };
    },
  };
}

/** The smallest gate of the final phase with a budget: small enough to change no output. */
const LEAST_GATE = 1e-10;

/** Numbers of every module, [ranks], by path: its gates, or the ranks that it keeps. */
type PerRank = Readonly<Record<string, ArrayLike<number>>>;

function nothingMoved(gates: PerRank, { etaC, l1raLambda }: L1raConfig, { totalSteps }: TrainPlan): string {
  if (Object.values(gates).every(({ length }) => length < 2)) {
    return 'l1ra: every module has one rank, and the last rank of a module never moves; start with more';
  }
  const shrinkage = (etaC * l1raLambda * totalSteps).toPrecision(2);
  return `l1ra: no gate reached zero in ${totalSteps} steps, so no rank moved; train longer, or raise l1raLambda (${l1raLambda} shrinks a gate by ${shrinkage} in such a run)`;
}

function keptRanks(gates: PerRank, threshold: number): Record<string, number[]> {
  return mapValues(gates, (gate) => {
    const ranks = Array.from(gate, (_, rank) => rank);
    const kept = ranks.filter((rank) => (gate[rank] as number) >= threshold);
    return kept.length > 0 ? kept : ranks.slice(-1);
  });
}

/** Returns the paths in the order in which modules get ranks. */
function receiversOf(gates: PerRank, { pruneThreshold, excludePruned }: L1raConfig): string[] {
  const smallest = Object.entries(gates).map(([path, gate]) => ({ path, least: Math.min(...Array.from(gate)) }));
  return smallest
    .filter(({ least }) => !excludePruned || least >= pruneThreshold)
    .sort((a, b) => b.least - a.least) // stable: the first module comes first in a tie
    .map(({ path }) => path);
}

function rankCount(ranks: PerRank): number {
  return Object.values(ranks).reduce((sum, each) => sum + each.length, 0);
}
