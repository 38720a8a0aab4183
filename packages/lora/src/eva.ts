import {
  hostZeros,
  pickColumns,
  rankCost,
  selectWithinBudget,
  truncatedSvd,
  type HostTensor,
  type Init,
  type LoraFactors,
  type Site,
} from '@peftjs/core';
import type { EvaConfig, LoraConfig } from './config.js';
import { rankAt, scalingOf, type Rank } from './ranks.js';

/*
 * EVA (Paischer et al., 2024, arXiv 2410.07170), in row vectors:
 *
 *   X = U S V^T                         X [rows, in], what a module reads; V [in, k] are the eigenvectors of X^T X
 *   A = V_r, B = 0                      [in, r], [r, out]
 *   e_i = S_i^2 / sum S^2               the share of X that direction i explains
 *   r_k = how many of module k's first rho r directions are among the best of all modules' together, by e_i
 *   alpha_k = alpha r_k / r             so that alpha / r stays: `adjustScalingFactors`
 */

/** The share of a budget in parameters that the directions have to fill, where any can. */
const FILLED = 0.99;

/** A module and the directions that it may get, best first. */
interface Candidate {
  readonly site: Site;
  /** What the configuration gives it. */
  readonly given: Rank;
  /** V `[in, most]`. */
  readonly directions: HostTensor;
  /** e_1, e_2, .. */
  readonly explained: readonly number[];
}

/** The factors of every module, ranks moved to where they explain most; a module without a rank is left out. */
export function evaFactors(
  sites: readonly Site[],
  config: LoraConfig,
  options: EvaConfig,
  init: Init,
): Record<string, LoraFactors> {
  const candidates = sites.map((site) => candidateOf(site, config, options, init));
  const ranks = movedRanks(candidates, options);
  return Object.fromEntries(
    candidates.flatMap(({ site, given, directions }, index) => {
      const r = ranks[index] as number;
      const alpha = options.adjustScalingFactors ? (given.alpha * r) / given.r : given.alpha;
      const loraA = pickColumns(
        directions,
        Array.from({ length: r }, (_, column) => column),
      ); // [in, r]
      const loraB = hostZeros([r, site.outFeatures]);
      return r === 0 ? [] : [[site.path, { loraA, loraB, scaling: scalingOf(config, { r, alpha }) }] as const];
    }),
  );
}

function candidateOf(site: Site, config: LoraConfig, { rho }: EvaConfig, init: Init): Candidate {
  const given = rankAt(config, site.path);
  const moment = init.calibrated('activations', site.path); // X^T X / rows, [in, in]
  const most = Math.min(Math.round(given.r * rho), site.inFeatures);
  const { u, s } = truncatedSvd(moment, most);
  const total = traceOf(moment);
  return { site, given, directions: u, explained: Array.from(s, (value) => (total > 0 ? value / total : 0)) };
}

/** How many of its first directions each module gets. */
function movedRanks(candidates: readonly Candidate[], { budgetUnit }: EvaConfig): number[] {
  const costOf = (site: Site): number => (budgetUnit === 'ranks' ? 1 : rankCost(site));
  const budget = candidates.reduce((sum, { site, given }) => sum + given.r * costOf(site), 0);
  const offered = candidates.flatMap(({ site, explained }, module) =>
    explained.map((value) => ({ module, value, cost: costOf(site) })),
  );
  const selected = selectWithinBudget(offered, budget, budgetUnit === 'ranks' ? {} : { atLeast: FILLED * budget });
  return candidates.map((_, index) => offered.filter(({ module }, item) => module === index && selected[item]).length);
}

/** sum S^2 / rows. */
function traceOf({ shape, data }: HostTensor): number {
  const [size = 0] = shape;
  return Array.from({ length: size }, (_, index) => data[index * size + index] as number).reduce((a, b) => a + b, 0);
}
