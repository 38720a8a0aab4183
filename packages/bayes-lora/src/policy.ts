import {
  floats,
  mapValues,
  tensorAt,
  tensorsAt,
  type HostTensor,
  type HostTensors,
  type TrainPlan,
} from '@peftjs/core/method';
import {
  firstWithinBudget,
  pruneStep,
  ranksByPath,
  scoredRanks,
  type RankPolicy,
  type ScoredRank,
} from '@peftjs/core/ranks';
import { transposed } from '@peftjs/core/linalg';
import { valuesOf } from '@peftjs/core/model';
import type { BayesLoraConfig } from './config.js';

/*
 * How likely rank i is noise:
 *
 *   log a_i = (median_j(l_i - ln(A_ji^2 + 1e-8)) + median_j(l_i - ln(B_ij^2 + 1e-8))) / 2     l_i = ln sigma_i^2
 */

/** Keeps mu^2 and alpha away from zero. */
export const EPSILON = 1e-8;

/** The tensors from which log alpha is computed. */
const TENSORS = ['loraA', 'loraB', 'logSigma2'] as const;

/**
 * Prunes ranks whose log alpha reaches the threshold, in `pruneEvents` events. With a budget, the events before the
 * final phase never go below it, and a last event just before the final phase cuts the ranks to it.
 */
export function bayesLoraPolicy(config: BayesLoraConfig, plan: TrainPlan): RankPolicy {
  const { budget } = config;
  const last = pruneStep(plan);
  const due = pruneSteps(config, plan);
  return {
    cuts: budget === null ? [] : [last],
    holdsFrom: budget === null ? 0 : last + 1,
    reads: (step) => (due.includes(step) ? TENSORS : []),
    decide(at) {
      const logAlphas = mapValues(at.of('logSigma2'), (_, path) =>
        rankLogAlpha(valuesOf(tensorAt(at.layers, path), at.values)),
      );
      const ranks = scoredRanks(logAlphas, at.cost).sort((a, b) => a.value - b.value); // stable: ties keep their order
      const isLast = budget !== null && at.step === last;
      const kept = isLast ? firstWithinBudget(ranks, budget) : ranksBelow(ranks, config);
      return { kept: ranksByPath(Object.keys(logAlphas), kept) };
    },
  };
}

/**
 * Returns the steps after which ranks are pruned, none in the warm-up or the final phase. Event i of n comes after
 * i / (n + 1) of the run; with a budget, the last one comes just before the final phase.
 */
function pruneSteps({ pruneEvents, budget }: BayesLoraConfig, plan: TrainPlan): number[] {
  const last = pruneStep(plan);
  const evenly = Array.from({ length: pruneEvents }, (_, index) =>
    Math.min(last, Math.ceil(((index + 1) * plan.totalSteps) / (pruneEvents + 1))),
  );
  const steps = evenly.filter((step) => step >= Math.max(1, plan.warmupSteps));
  return [...new Set(budget === null ? steps : [...steps, last])];
}

/** Returns the ranks below the threshold, and as many of the best others as it takes to fill a budget. */
function ranksBelow(best: readonly ScoredRank[], { logAlphaThreshold, budget }: BayesLoraConfig): ScoredRank[] {
  let stored = best.reduce((sum, { cost }) => sum + cost, 0);
  const kept = [...best];
  for (let worst = kept.at(-1); worst; worst = kept.at(-1)) {
    if (worst.value < logAlphaThreshold || stored - worst.cost < (budget ?? 0)) break;
    stored -= worst.cost;
    kept.pop();
  }
  return kept;
}

/**
 * Returns log alpha of every rank: the mean of the medians over its entries in A and in B.
 * @param values `loraA` [in, r], `loraB` [r, out], `logSigma2` [r]
 */
export function rankLogAlpha(values: HostTensors): number[] {
  const { loraA, loraB, logSigma2 } = tensorsAt(values, ...TENSORS);
  const [columns, rows] = [transposed(loraA), loraB]; // [r, in], [r, out]
  return Array.from(floats(logSigma2), (level, rank) => (median(columns, rank, level) + median(rows, rank, level)) / 2);
}

/** Returns the lower median of log alpha over a row. */
function median(matrix: HostTensor, row: number, logSigma2: number): number {
  const width = matrix.shape[1] as number;
  const entries = floats(matrix).subarray(row * width, (row + 1) * width);
  return lowerMedian(Float64Array.from(entries, (mu) => logSigma2 - Math.log(mu ** 2 + EPSILON)));
}

/** Returns the median, or the lower of the two middle values. */
export function lowerMedian(values: Float64Array): number {
  return values.sort()[Math.floor((values.length - 1) / 2)] as number;
}
