import {
  mapTensor,
  mapValues,
  tensorAt,
  type AdapterLayers,
  type HostTensor,
  type HostTensors,
  type TrainPlan,
} from '@peftjs/core/method';
import {
  dealRanks,
  fillBudget,
  pruneStep,
  ranksByPath,
  scoredRanks,
  totalRanks,
  type RankDeal,
  type RankPolicy,
  type RankReading,
  type RankScores,
} from '@peftjs/core/ranks';
import type { AloraConfig } from './config.js';

/*
 * AB-LoRA, the importance score of a rank r (Liu et al., 2024), from losses L on held-out rows, without dropout:
 *
 *   IS(r) = S(M) - S(M without r) + S(M with r alone)      S = -L
 *
 * "Alone" is without any other rank of any module. If every rank r adds d_r to S, then IS = S(no ranks) + 2 d_r, which
 * has the order of d.
 *
 * How ranks move in one round:
 *
 *   The n ranks with the lowest scores over all modules are pruned.
 *   n new ranks go to the modules that lost none, as evenly as possible; modules with a higher mean score get the extra
 *   ones. If every module has lost some, no ranks are added.
 *
 * Ours: with a budget, ranks cost the parameters that they store, and the last round fills the budget.
 */

/** Returns ALoRA's policy, or undefined if no ranks move. */
export function aloraPolicy(config: AloraConfig, plan: TrainPlan, layers: AdapterLayers): RankPolicy | undefined {
  const { budget, probeRows } = config;
  const cuts = roundSteps(config, plan);
  const last = cuts.at(-1);
  if (last === undefined) return undefined;
  const count = Math.max(1, Math.round(config.movedShare * totalRanks(layers)));
  return {
    cuts,
    holdsFrom: budget === null ? 0 : last + 1,
    probeRows,
    reads: (step) => (cuts.includes(step) ? ['gate'] : []),
    probes: probesOf,
    decide: (at) => movedRanks(scoresOf(at), { count, budget, isLast: at.step === last, cost: at.cost }),
  };
}

/**
 * Returns the steps after which ranks move. The first comes after both `firstRound` of the run and the warm-up, the
 * others at intervals of `roundInterval` of the run, none after the cut. Rounds that would come later, or after the
 * same step, are merged into one. A budget needs one round at least.
 */
export function roundSteps({ rounds, firstRound, roundInterval, budget }: AloraConfig, plan: TrainPlan): number[] {
  const { totalSteps, warmupSteps } = plan;
  const first = Math.max(Math.round(firstRound * totalSteps), warmupSteps + 1);
  const cut = pruneStep(plan);
  const length = budget === null ? rounds : Math.max(1, rounds);
  const steps = Array.from({ length }, (_, round) =>
    Math.min(cut, first + Math.round(round * roundInterval * totalSteps)),
  );
  return cut < 1 ? [] : [...new Set(steps)];
}

/** Returns the gates of all probes: the full adapter, the adapter without each rank, and with each rank alone. */
function probesOf(gates: HostTensors): Record<string, HostTensors> {
  const none = mapValues(gates, (gate) => gateOf(gate, () => false));
  const probes: Record<string, HostTensors> = { [WHOLE]: {} };
  for (const [key, gate] of Object.entries(gates)) {
    for (const rank of gate.data.keys()) {
      probes[without(key, rank)] = { [key]: gateOf(gate, (other) => other !== rank) };
      probes[alone(key, rank)] = { ...none, [key]: gateOf(gate, (other) => other === rank) };
    }
  }
  return probes;
}

const WHOLE = 'the whole adapter';
const without = (key: string, rank: number): string => `without ${key} ${rank}`;
const alone = (key: string, rank: number): string => `${key} ${rank} alone`;

/** Returns a gate [r] with zeros for the ranks that are left out. */
function gateOf(gate: HostTensor, isIn: (rank: number) => boolean): HostTensor {
  return mapTensor(gate, (value, rank) => (isIn(rank) ? value : 0));
}

function scoresOf({ of, losses }: RankReading): RankScores {
  const loss = (probe: string): number => tensorAt(losses, probe);
  const score = (key: string, rank: number) => loss(without(key, rank)) - loss(WHOLE) - loss(alone(key, rank)); // S = -L
  return mapValues(of('gate'), (gate, path) => Array.from(gate, (_, rank) => score(`${path}.gate`, rank)));
}

/** The terms of a round. */
export interface RoundTerms extends Pick<RankDeal, 'budget' | 'cost'> {
  /** n, the number of ranks to move. */
  readonly count: number;
  /** Whether this round has to fill the budget. */
  readonly isLast: boolean;
}

/** Returns the ranks that modules keep, and how many they get. In a tie the first module's first ranks are pruned. */
export function movedRanks(scores: RankScores, { count, budget, isLast, cost }: RoundTerms) {
  const ascending = scoredRanks(scores, cost).sort((a, b) => a.value - b.value);
  const kept = ranksByPath(Object.keys(scores), ascending.slice(count));
  const byMean = pathsByMean(scores);
  const receivers = byMean.filter((path) => kept[path]?.length === scores[path]?.length);
  const deal = { receivers, budget, cost };
  if (budget === null || !isLast) return { kept, added: dealRanks(kept, { ...deal, count }) };
  const filled = { ...deal, budget, receivers: receivers.length > 0 ? receivers : byMean };
  return { kept, added: fillBudget(kept, filled, byMean) };
}

function pathsByMean(scores: RankScores): string[] {
  const mean = (own: ArrayLike<number>): number => Array.from(own).reduce((sum, score) => sum + score, 0) / own.length;
  const means = Object.entries(scores).map(([path, own]) => ({ path, mean: mean(own) }));
  return means.sort((a, b) => b.mean - a.mean).map(({ path }) => path);
}
