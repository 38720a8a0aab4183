import {
  allocatedRanks,
  assertCuttable,
  cutStep,
  firstWithinBudget,
  floats,
  keepRanks,
  missedCut,
  rankCost,
  rankedPaths,
  tensorAt,
  tensorsAt,
  withRankCounts,
  withResized,
  type AdapterContents,
  type AdapterLayers,
  type Controller,
  type HostTensors,
  type TrainPlan,
} from '@peftjs/core/method';
import type { BayesLoraConfig } from './config.js';
import { EPSILON } from './layer.js';

/**
 * Prunes ranks whose log alpha reaches the threshold, `pruneEvents` times. With a budget they never fall below it, and the last event,
 * before the final steps, cuts them down to it.
 * @throws ConfigError for a budget that the starting ranks do not reach, or that no step is left to cut them in.
 */
export function bayesLoraController(layers: AdapterLayers, config: BayesLoraConfig, plan: TrainPlan): Controller {
  const { budget } = config;
  if (budget !== null) assertCuttable(layers, budget, plan);
  const last = cutStep(plan);
  const due = new Set(pruneSteps(config, plan));
  let [held, isCut] = [layers, false];
  return {
    scalars(step) {
      if (budget !== null && step > last && !isCut) throw missedCut("BayesLoRA's ranks were not cut", step, last);
      return {};
    },
    reads: (step) => (due.has(step) ? rankedPaths(held).flatMap(tensorsOf) : []),
    afterStep(step, values) {
      const ranks = ranksBest(held, values);
      isCut ||= step === last;
      const kept = budget !== null && isCut ? firstWithinBudget(ranks, budget) : ranksBelow(ranks, config);
      const resized = keepRanks(held, keptByPath(rankedPaths(held), kept));
      held = withResized(held, resized);
      return { resized };
    },
    holdsBudget: (step) => budget === null || step > last,
    snapshot: () => ({ ranks: Object.values(held).map(allocatedRanks), isCut }),
    restore(state) {
      if (Array.isArray(state.ranks)) held = withRankCounts(layers, state.ranks as readonly number[]);
      isCut = state.isCut === true;
    },
  };
}

/**
 * The steps after which ranks are pruned: none of the warm-up, none of the final steps. Event i of n comes after i / (n + 1) of the run;
 * with a budget the last one is right before the final steps.
 */
function pruneSteps(
  { pruneEvents, budget }: Pick<BayesLoraConfig, 'pruneEvents' | 'budget'>,
  plan: TrainPlan,
): number[] {
  const last = cutStep(plan);
  const evenly = Array.from({ length: pruneEvents }, (_, index) =>
    Math.min(last, Math.ceil(((index + 1) * plan.totalSteps) / (pruneEvents + 1))),
  );
  const steps = evenly.filter((step) => step >= Math.max(1, plan.warmupSteps));
  return [...new Set(budget === null ? steps : [...steps, last])];
}

/** The layers that values of a later step fit: ranks go and do not come back. */
export function resumedLayers({ layers, values }: AdapterContents<BayesLoraConfig>): AdapterLayers {
  const counts = Object.keys(layers).map((path) => values[`${path}.logSigma2`]?.data.length ?? 0);
  return withRankCounts(layers, counts);
}

/** A rank, what it stores and how likely it is noise. */
interface ScoredRank {
  readonly path: string;
  readonly rank: number;
  readonly cost: number;
  readonly logAlpha: number;
}

/** All ranks, the least log alpha first; equal ones in the order of the modules. */
function ranksBest(layers: AdapterLayers, values: HostTensors): ScoredRank[] {
  const scored = rankedPaths(layers).flatMap((path) => {
    const { site } = tensorAt(layers, path);
    const own = Object.fromEntries(TENSORS.map((name) => [name, tensorAt(values, `${path}.${name}`)]));
    return rankLogAlpha(own).map((logAlpha, rank) => ({ path, rank, cost: rankCost(site), logAlpha }));
  });
  return scored.sort((a, b) => a.logAlpha - b.logAlpha);
}

/** What a rank is judged by. */
const TENSORS = ['loraA', 'loraB', 'logSigma2'];

function tensorsOf(path: string): string[] {
  return TENSORS.map((name) => `${path}.${name}`);
}

/** The ranks below the threshold, and of the others as many of the best as keep a budget filled. */
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
 * log alpha of every rank: the mean of the medians over its entries in A and in B.
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

/** The middle value, of an even number the lower one of both. */
export function lowerMedian(values: Float64Array): number {
  return values.sort()[Math.floor((values.length - 1) / 2)] as number;
}
