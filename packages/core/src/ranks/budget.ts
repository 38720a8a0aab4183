import { ConfigError } from '../errors.js';
import type { MatchOn, TargetConfig } from '../contracts/method.js';
import type { Site } from '../contracts/site.js';
import { narrowTargets, patternValue } from '../adapter/targets.js';
import { mapValues, sumOf } from '../tensors.js';
import { isNearBudget, NEAR_SHARE, selectWithinBudget } from './within-budget.js';

/** Returns the number of parameters of one rank of a module: a column of A and a row of B. */
export function rankCost({ inFeatures, outFeatures }: Site): number {
  return inFeatures + outFeatures;
}

/** Returns the highest rank that a change of a module can have: its smaller side. */
export function fullRank({ inFeatures, outFeatures }: Site): number {
  return Math.min(inFeatures, outFeatures);
}

/** Returns the number of parameters of one rank in every module. */
export function rankUnit(sites: readonly Site[]): number {
  return sumOf(sites, rankCost);
}

/** The number of starting ranks per rank kept, for a method that chooses its ranks. */
export const RANKS_PER_KEPT_RANK = 1.5;

/**
 * The least starting rank. At first a rank sees the gradient along one random direction of A. With two ranks it is luck
 * how much of the gradient a module sees; with eight, less so.
 */
const MIN_RANK = 8;

/**
 * Returns the starting rank of every module, for a method that chooses which ranks to keep within a budget. It is at
 * most the smallest side of any module, unless the budget needs more.
 * @param budget parameters to store
 * @param fewest the least starting rank
 */
export function startingRankForBudget(sites: readonly Site[], budget: number, fewest = MIN_RANK): number {
  const possible = Math.min(...sites.map(fullRank));
  return Math.max(Math.min(fewest, possible), Math.ceil((RANKS_PER_KEPT_RANK * budget) / rankUnit(sites)));
}

/**
 * Returns one starting rank for all modules, and the parameters to keep, for a method that keeps two thirds of its
 * ranks. 'stored': the starting ranks store 1.5 times the budget. 'trained': A, B and `vectors` more numbers per rank
 * of all modules fill it.
 * @throws ConfigError when the budget does not pay for one rank.
 */
export function startAbove(
  sites: readonly Site[],
  budget: number,
  matchOn: MatchOn,
  vectors: number,
): { readonly r: number; readonly budget: number } {
  assertOneRank(sites, budget);
  const unit = rankUnit(sites);
  if (matchOn === 'stored') return { r: Math.ceil((RANKS_PER_KEPT_RANK * budget) / unit), budget };
  const r = Math.max(1, Math.round(budget / (unit + vectors)));
  return { r, budget: Math.round((r * unit) / RANKS_PER_KEPT_RANK) };
}

/**
 * Checks that the modules can hold a budget: at full rank each stores min(in, out) times in + out.
 * @throws ConfigError naming the largest budget, for one above it.
 */
export function assertWithinModules(sites: readonly Site[], budget: number): void {
  const most = sumOf(sites, (site) => fullRank(site) * rankCost(site));
  if (sites.length === 0 || !(budget > most)) return;
  const modules = sites.length === 1 ? 'this module holds' : `these ${sites.length} modules hold`;
  throw new ConfigError(
    `budget is ${budget}; ${modules} at most ${most} parameters, at full rank: ask for less, or adapt more modules`,
    'budget',
  );
}

/** Checks that a budget is no larger than the base model. @throws ConfigError naming the largest budget. */
export function assertWithinBase(budget: number, base: number): void {
  if (budget <= base) return;
  throw new ConfigError(`budget is ${budget}; the base model has ${base} parameters: ask for at most that`, 'budget');
}

/** Checks that a budget pays for one rank of the smallest module. @throws ConfigError when it does not. */
export function assertOneRank(sites: readonly Site[], budget: number): void {
  const least = Math.min(...sites.map(rankCost));
  if (budget >= least) return;
  throw new ConfigError(`budget is ${budget}; one rank of the smallest module stores ${least} parameters`, 'budget');
}

/** A rank for every module. */
export interface RankTable {
  /** The rank of modules that `rankPattern` does not name. */
  readonly r: number;
  /** Ranks of single modules, by path. */
  readonly rankPattern: Record<string, number>;
  /** The total number of parameters of these ranks. */
  readonly cost: number;
}

/**
 * Returns the sites that a budget pays for, where the smallest adapter of a site costs `leastCost`: all of them if
 * possible, otherwise as many as possible at a total cost within 2 % of the budget. Of equally expensive sites it
 * prefers those nearer to the output, because adapters of lower layers matter least (Rücklé et al., 2021,
 * arXiv 2010.11918).
 *
 * @throws ConfigError when it does not pay for one.
 */
export function sitesForBudget(
  sites: readonly Site[],
  budget: number,
  leastCost: (site: Site) => number,
): readonly Site[] {
  if (sites.length > 0 && sumOf(sites, leastCost) <= (1 + NEAR_SHARE) * budget) return sites;
  const fromAbove = [...sites].reverse().map((site) => ({ site, value: 1, cost: leastCost(site) }));
  const selected = selectWithinBudget(fromAbove, budget || 0, { atLeast: (1 - NEAR_SHARE) * budget });
  const kept = selected.map(({ site }) => site).reverse();
  if (kept.length > 0) return kept;
  const least = Math.min(...sites.map(leastCost));
  throw new ConfigError(
    `budget is ${budget}; the smallest adapter of one of ${sites.length} modules takes ${least} parameters, ask for at least that`,
    'budget',
  );
}

/**
 * Returns ranks that together cost `budget` or slightly less: the same rank everywhere where that fits, otherwise one
 * more for some modules, and more than one only where the total would otherwise be over 2 % short. If it is still over
 * 2 % short, the total may exceed the budget by up to 2 %, if that is nearer.
 *
 * @param unitCost the cost of one rank of a module; default in + out
 * @throws ConfigError when the budget is below rank 1 everywhere.
 */
export function ranksForBudget(
  sites: readonly Site[],
  budget: number,
  unitCost: (site: Site) => number = rankCost,
): RankTable {
  const within = ranksWithin(sites, budget, unitCost);
  if (within && isNearBudget(within.cost, budget)) return within;
  const above = ranksWithin(sites, (1 + NEAR_SHARE) * budget, unitCost);
  if (within && above) return above.cost - budget < budget - within.cost ? above : within;
  if (above) return above;
  throw new ConfigError(
    `budget is ${budget}; rank 1 on ${sites.length} modules takes ${sumOf(sites, unitCost)} parameters, ask for at least that or target fewer modules`,
    'budget',
  );
}

/**
 * Returns ranks of at least one that use as much of `budget` as possible; undefined where rank 1 everywhere costs more.
 */
function ranksWithin(sites: readonly Site[], budget: number, unitCost: (site: Site) => number): RankTable | undefined {
  const unit = sumOf(sites, unitCost);
  if (!(budget >= unit) || sites.length === 0) return undefined;
  const r = Math.floor(budget / unit);
  const extra = extraRanks(sites, budget, r, unitCost);
  const ranks = Object.fromEntries(sites.map((site, index) => [site.path, r + (extra[index] as number)]));
  const cost = sites.reduce((sum, site, index) => sum + (r + (extra[index] as number)) * unitCost(site), 0);
  return { r, rankPattern: compactPattern(ranks, r), cost };
}

/**
 * Returns a configuration whose ranks together cost a budget (`ranksForBudget`), on as many modules as it pays for
 * (`sitesForBudget`).
 * @param unitCost the cost of one rank of a module; default in + out
 * @throws ConfigError when the budget does not pay for one rank of one module.
 */
export function withRanksForBudget<C extends TargetConfig>(
  sites: readonly Site[],
  budget: number,
  config: C,
  unitCost: (site: Site) => number = rankCost,
): C & Pick<RankTable, 'r' | 'rankPattern'> {
  const kept = sitesForBudget(sites, budget, unitCost);
  const { r, rankPattern } = ranksForBudget(kept, Math.max(budget, sumOf(kept, unitCost)), unitCost);
  return { ...narrowTargets(kept, config, sites), r, rankPattern };
}

/**
 * Returns the shortest pattern table that gives every module its value: the entries that differ from `usual`. A path
 * that, as a dotted suffix, would also match another module is anchored by `^`.
 */
export function compactPattern(values: Readonly<Record<string, number>>, usual: number): Record<string, number> {
  const paths = Object.keys(values);
  const differing = Object.entries(values).filter(([, value]) => value !== usual);
  return Object.fromEntries(
    differing.map(([path, value]) => {
      const ambiguous = paths.some((other) => other !== path && patternValue({ [path]: 1 }, other) !== undefined);
      return [ambiguous ? `^${path}` : path, value];
    }),
  );
}

/** The rank and alpha of a module. */
export interface ModuleRank {
  /** The rank. */
  readonly r: number;
  /** The numerator of the scaling alpha / r. */
  readonly alpha: number;
}

/** Ranks and alphas of single modules, by PEFT's patterns. */
export interface RankPatterns {
  /** Ranks by pattern. */
  readonly rankPattern: Readonly<Record<string, number>>;
  /** Alphas by pattern. */
  readonly alphaPattern: Readonly<Record<string, number>>;
}

/** Returns the rank that a module starts with. */
export function startingRank(
  { path }: Site,
  { r, rankPattern }: Pick<ModuleRank & RankPatterns, 'r' | 'rankPattern'>,
): number {
  return patternValue(rankPattern, path) ?? r;
}

/** Returns the rank and alpha that a configuration gives the module at `path`. */
export function moduleRank(
  { r, alpha, rankPattern, alphaPattern }: ModuleRank & RankPatterns,
  path: string,
): ModuleRank {
  return { r: patternValue(rankPattern, path) ?? r, alpha: patternValue(alphaPattern, path) ?? alpha };
}

/** Returns the alphas that modules get from their ranks, with a pattern for each pattern of the ranks. */
export function alphasFor(
  { r, rankPattern }: Pick<ModuleRank & RankPatterns, 'r' | 'rankPattern'>,
  alphaOf: (r: number) => number,
): Pick<ModuleRank & RankPatterns, 'alpha' | 'alphaPattern'> {
  return { alpha: alphaOf(r), alphaPattern: mapValues(rankPattern, alphaOf) };
}

/**
 * Returns pattern tables that give modules these ranks and alphas, with entries only where they differ from `usual`.
 */
export function rankPatterns(modules: Readonly<Record<string, ModuleRank>>, usual: ModuleRank): RankPatterns {
  const column = (key: keyof ModuleRank): Record<string, number> =>
    Object.fromEntries(Object.entries(modules).map(([path, rank]) => [path, rank[key]]));
  return {
    rankPattern: compactPattern(column('r'), usual.r),
    alphaPattern: compactPattern(column('alpha'), usual.alpha),
  };
}

/** Returns each site's extra ranks beyond `r`: no more per site than are needed to come near the budget. */
function extraRanks(
  sites: readonly Site[],
  budget: number,
  r: number,
  unitCost: (site: Site) => number,
): readonly number[] {
  const left = budget - r * sumOf(sites, unitCost);
  const room = sites.map((site) => {
    const useful = Math.max(1, fullRank(site) - r);
    return Math.min(useful, Math.floor(left / unitCost(site)));
  });
  const most = Math.max(...room);
  let extra: readonly number[] = sites.map(() => 0);
  for (let spread = 1; spread < 2 * most; spread *= 2) {
    extra = spreadRanks(
      sites.map(unitCost),
      room.map((limit) => Math.min(limit, spread)),
      left,
    );
    const stored = extra.reduce((sum, count, index) => sum + count * unitCost(sites[index] as Site), 0);
    if (left - stored <= NEAR_SHARE * budget) break;
  }
  return extra;
}

/**
 * Returns how many of the allowed ranks of each site fill the budget best. A site gets a second rank only after every
 * site's first.
 */
function spreadRanks(costs: readonly number[], allowed: readonly number[], budget: number): number[] {
  const rounds = Array.from({ length: Math.max(...allowed) }, (_, round) =>
    costs.flatMap((cost, site) => (round < (allowed[site] as number) ? [{ site, cost, value: 0 }] : [])),
  ).flat();
  const counts = costs.map(() => 0);
  for (const { site } of selectWithinBudget(rounds, budget)) counts[site] = (counts[site] as number) + 1;
  return counts;
}
