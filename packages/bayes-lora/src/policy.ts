import {
  assertPrunable,
  firstWithinBudget,
  floats,
  pruneStep,
  rankCost,
  rankedPaths,
  tensorAt,
  tensorsAt,
  type AdapterLayers,
  type HostTensors,
  type RankPolicy,
  type TrainPlan,
} from '@peftjs/core/method';
import type { BayesLoraConfig } from './config.js';

/*
 * How likely rank i is noise:
 *
 *   log a_i = (median_j(l_i - ln(A_ji^2 + 1e-8)) + median_j(l_i - ln(B_ij^2 + 1e-8))) / 2     l_i = ln sigma_i^2
 */

/** Keeps mu^2 and alpha away from zero. */
export const EPSILON = 1e-8;

/**
 * Prunes ranks whose log alpha reaches the threshold, in `pruneEvents` events. With a budget, the events before the
 * final phase never go below it, and a last event just before the final phase cuts the ranks to it.
 * @throws ConfigError for a budget that the initial ranks do not reach, or when there is no step in which to cut.
 */
export function bayesLoraPolicy(layers: AdapterLayers, config: BayesLoraConfig, plan: TrainPlan): RankPolicy {
  const { budget } = config;
  if (budget !== null) assertPrunable(layers, budget, plan, 0.02);
  const last = pruneStep(plan);
  const due = pruneSteps(config, plan);
  return {
    cuts: budget === null ? [] : [last],
    holdsFrom: budget === null ? 0 : last + 1,
    reads: (step) => (due.includes(step) ? TENSORS : []),
    decide({ step, layers, values }) {
      const ranks = ranksBest(layers, values);
      const kept = budget !== null && step === last ? firstWithinBudget(ranks, budget) : ranksBelow(ranks, config);
      return { kept: keptByPath(rankedPaths(layers), kept) };
    },
  };
}

/**
 * Returns the steps after which ranks are pruned, none in the warm-up or the final phase. Event i of n comes after
 * i / (n + 1) of the run; with a budget, the last one comes just before the final phase.
 */
function pruneSteps(
  { pruneEvents, budget }: Pick<BayesLoraConfig, 'pruneEvents' | 'budget'>,
  plan: TrainPlan,
): number[] {
  const last = pruneStep(plan);
  const evenly = Array.from({ length: pruneEvents }, (_, index) =>
    Math.min(last, Math.ceil(((index + 1) * plan.totalSteps) / (pruneEvents + 1))),
  );
  const steps = evenly.filter((step) => step >= Math.max(1, plan.warmupSteps));
  return [...new Set(budget === null ? steps : [...steps, last])];
}

/** A rank with its cost and its log alpha, which says how likely it is noise. */
interface ScoredRank {
  /** The path of its module. */
  readonly path: string;
  /** Its index in the module. */
  readonly rank: number;
  /** The number of parameters that it stores. */
  readonly cost: number;
  readonly logAlpha: number;
}

/** Returns all ranks, lowest log alpha first. Ties keep the order of the modules. */
function ranksBest(layers: AdapterLayers, values: HostTensors): ScoredRank[] {
  const scored = rankedPaths(layers).flatMap((path) => {
    const { site } = tensorAt(layers, path);
    const own = Object.fromEntries(TENSORS.map((name) => [name, tensorAt(values, `${path}.${name}`)]));
    return rankLogAlpha(own).map((logAlpha, rank) => ({ path, rank, cost: rankCost(site), logAlpha }));
  });
  return scored.sort((a, b) => a.logAlpha - b.logAlpha);
}

/** The tensors from which log alpha is computed. */
const TENSORS = ['loraA', 'loraB', 'logSigma2'];

/** Returns the ranks below the threshold, and as many of the best others as it takes to fill a budget. */
function ranksBelow(best: readonly ScoredRank[], { logAlphaThreshold, budget }: BayesLoraConfig): ScoredRank[] {
  let stored = total(best);
  const kept = [...best];
  for (let worst = kept.at(-1); worst; worst = kept.at(-1)) {
    if (worst.logAlpha < logAlphaThreshold || stored - worst.cost < (budget ?? 0)) break;
    stored -= worst.cost;
    kept.pop();
  }
  return kept;
}

function total(ranks: readonly ScoredRank[]): number {
  return ranks.reduce((sum, { cost }) => sum + cost, 0);
}

function keptByPath(paths: readonly string[], kept: readonly ScoredRank[]): Record<string, number[]> {
  const ranks = Object.fromEntries(paths.map((path) => [path, [] as number[]]));
  for (const { path, rank } of kept) ranks[path]?.push(rank);
  for (const each of Object.values(ranks)) each.sort((a, b) => a - b);
  return ranks;
}

/**
 * Returns log alpha of every rank: the mean of the medians over its entries in A and in B.
 * @param values `loraA` [in, r], `loraB` [r, out], `logSigma2` [r]
 */
export function rankLogAlpha(values: HostTensors): number[] {
  const { loraA, loraB, logSigma2 } = tensorsAt(values, 'loraA', 'loraB', 'logSigma2');
  const [a, b] = [floats(loraA), floats(loraB)];
  const [inFeatures = 0, r = 0] = loraA.shape;
  const [, outFeatures = 0] = loraB.shape;
  return Array.from(floats(logSigma2), (level, rank) => {
    const ofA = lowerMedian(
      Float64Array.from({ length: inFeatures }, (_, row) => entryLogAlpha(level, a[row * r + rank] as number)),
    );
    const ofB = lowerMedian(
      Float64Array.from({ length: outFeatures }, (_, column) =>
        entryLogAlpha(level, b[rank * outFeatures + column] as number),
      ),
    );
    return (ofA + ofB) / 2;
  });
}

function entryLogAlpha(logSigma2: number, mu: number): number {
  return logSigma2 - Math.log(mu ** 2 + EPSILON);
}

/** Returns the median, or the lower of the two middle values. */
export function lowerMedian(values: Float64Array): number {
  return values.sort()[Math.floor((values.length - 1) / 2)] as number;
}
