import {
  floats,
  hostFilled,
  mapValues,
  tensorAt,
  type HostTensor,
  type HostTensors,
  type Rng,
  type TrainPlan,
} from '@peftjs/core/method';
import {
  allocatedCost,
  bestFirst,
  dealRanks,
  fillBudget,
  fullRank,
  isNearBudget,
  pruneStep,
  ranksByPath,
  scoredRanks,
  type RankDeal,
  type RankPolicy,
  type RankReading,
} from '@peftjs/core/ranks';
import { joinColumns, normalValues, pickColumns, pickRows, qr, transposed } from '@peftjs/core/linalg';
import type { ElaLoraConfig } from './config.js';
import { noScores } from './scores.js';

/*
 * Ranks move at steps t with ti < t < te, where t - ti is a multiple of the interval and te is the step before the
 * final phase:
 *
 *   pool   the min(k, ranks - 1) ranks with the lowest scores of every module
 *   b(t)   = round(b (1 - x^3)), x = (t - ti) / (te - ti)       the number of ranks that move
 *   lose   the b(t) lowest of the pool are pruned
 *   gain   the modules of the b(t) highest of the pool gain one rank each: a module may gain several, or lose and gain
 *
 * A new rank has a column of A and a row of B of length 1, orthogonal to those that the module keeps, and
 * E = min(min |E|, 1e-13), so that the outputs do not change.
 *
 * With a budget (ours), a module gains a rank only while all modules together store at most 2 % more than the budget;
 * otherwise the next one of the pool gains it. After te, the rest of the budget goes to the modules whose lowest score
 * is highest.
 */

/** The most that may be stored before te, as a multiple of the budget. */
const ABOVE = 1.02;

/** Returns ElaLoRA's policy. */
export function elaLoraPolicy(config: ElaLoraConfig, plan: TrainPlan): RankPolicy {
  const { budget, restartsOptimizer } = config;
  const [end, movesAt] = [pruneStep(plan), movesOf(config, plan)];
  return {
    cuts: budget === null ? [] : [end],
    reads: (step) =>
      movesAt(step) > 0 || (step === end && budget !== null) ? ['importance', 'gate', 'loraA', 'loraB'] : [],
    decide(at) {
      const move = at.step < end ? regularMove(at, movesAt(at.step), config) : fillingMove(at, budget);
      if (!move) return {};
      const { kept, gained } = move;
      return { kept, added: newRanks(at, kept, gained), restartsOptimizer };
    },
  };
}

/** Returns b(t) of a run: the number of ranks that move after a step. */
function movesOf({ startRatio, rankUpdateRatio, movedRanks }: ElaLoraConfig, plan: TrainPlan) {
  const start = Math.max(plan.warmupSteps, Math.round(startRatio * plan.totalSteps));
  const end = pruneStep(plan);
  const interval = Math.max(1, Math.round(rankUpdateRatio * plan.totalSteps));
  return (step: number): number => {
    if (step <= start || step >= end || (step - start) % interval !== 0) return 0;
    return Math.round(movedRanks * (1 - ((step - start) / (end - start)) ** 3));
  };
}

/** Returns the ranks that modules keep, and how many each gains. */
function regularMove(at: RankReading, moves: number, { candidateRanks, budget }: ElaLoraConfig) {
  const ranks = scoredRanks(at.of('importance'), at.cost);
  const paths = Object.keys(at.layers);
  const ofModules = paths.map((path) => bestFirst(ranks.filter((rank) => rank.path === path)));
  const pool = bestFirst(ofModules.flatMap((own) => own.slice(Math.max(1, own.length - candidateRanks))));
  const count = Math.min(moves, pool.length);
  const lost = pool.slice(pool.length - count);
  const kept = ranksByPath(
    paths,
    ranks.filter((rank) => !lost.includes(rank)),
  );
  const receivers = pool.map(({ path }) => path);
  const limit = budget === null ? null : ABOVE * budget;
  return { kept, gained: dealRanks(kept, { ...terms(at), receivers, budget: limit, count, rounds: 1 }) };
}

/**
 * Adds ranks in turn to the modules whose lowest scores are highest, until the budget is filled. Undefined where nothing
 * is left to fill.
 */
function fillingMove(at: RankReading, budget: number | null) {
  if (budget === null || isNearBudget(allocatedCost(at.layers), budget)) return undefined;
  const scores = at.of('importance');
  const kept = ranksByPath(Object.keys(scores), scoredRanks(scores, at.cost));
  const least = Object.entries(scores).map(([path, own]) => ({ path, value: Math.min(...own) }));
  const receivers = least.sort((a, b) => b.value - a.value).map(({ path }) => path);
  return { kept, gained: fillBudget(kept, { ...terms(at), receivers, budget }, receivers) };
}

/** A rank's cost, and the highest rank of a module. */
function terms({ layers, cost }: RankReading): Pick<RankDeal, 'cost' | 'most'> {
  return { cost, most: (path) => fullRank(tensorAt(layers, path).site) };
}

/** The upper limit of E of a new rank. */
const MAX_NEW = 1e-13;

/** Returns the new ranks of the modules that gain some. */
function newRanks(
  { values, rng }: RankReading,
  kept: Readonly<Record<string, readonly number[]>>,
  gained: Readonly<Record<string, number>>,
): Record<string, HostTensors> {
  return mapValues(gained, (count, path) => {
    const read = (name: string): HostTensor => tensorAt(values, `${path}.${name}`);
    const [own, draw] = [tensorAt(kept, path), rng.fork(path)];
    const smallest = Math.min(MAX_NEW, ...floats(read('gate')).map(Math.abs));
    const loraA = orthogonalDirections(pickColumns(read('loraA'), own), count, draw.fork('loraA')); // [in, count]
    const loraB = transposed(orthogonalDirections(transposed(pickRows(read('loraB'), own)), count, draw.fork('loraB')));
    const gate = hostFilled([count], smallest);
    return { loraA, loraB, gate, ...noScores({ loraA, loraB, gate }) };
  });
}

/** Returns random columns of length 1, orthogonal to those of a matrix and to each other, by QR (Gram-Schmidt). */
function orthogonalDirections(matrix: HostTensor, count: number, rng: Rng): HostTensor {
  const [rows, columns] = matrix.shape as [number, number];
  const { q } = qr(joinColumns(matrix, normalValues(rng, [rows, count], 1))); // [rows, columns + count]
  return pickColumns(q, [...Array(columns + count).keys()].slice(columns));
}
