import { ConfigError } from '../errors.js';
import type { Site } from '../contracts/site.js';
import { patternValue } from './targets.js';

/** Something worth keeping and what it costs. */
export interface BudgetItem {
  /** At least zero. */
  readonly value: number;
  /** A whole number above zero. */
  readonly cost: number;
}

/** Work and memory that a selection may take: items times cells, and cost classes times cells. */
const MAX_STEPS = 2 ** 26;
const MAX_CELLS = 2 ** 24;

/**
 * The items worth most that fit into a budget together: an exact 0/1 knapsack. Of selections worth the same, the one that
 * fills more of the budget wins, so that items worth nothing still fill what is left; ties go to lower indices.
 *
 * Within a class of equal cost the best items come first, so one pass per class over the sums of costs is enough. Sums
 * are counted in units of the costs' common divisor; where that would take too much memory or time, in a coarser unit:
 * sums that share a cell then compete, and the budget still holds exactly.
 *
 * Sums below `atLeast` are taken only if no other can be reached; then the greatest sum wins.
 *
 * @throws ConfigError for a value below zero or a cost that is no whole number above zero.
 */
export function selectWithinBudget(
  items: readonly BudgetItem[],
  budget: number,
  { atLeast = 0 }: { readonly atLeast?: number } = {},
): boolean[] {
  items.forEach(assertItem);
  const room = Math.max(0, Math.floor(budget));
  const classes = costClasses(items);
  const unit = cellUnit(classes, items.length, room);
  const { sums, taken } = fillTable(classes, room, unit);
  const selected = items.map(() => false);
  let cost = bestSum(sums, atLeast);
  for (const [index, { cost: each, members }] of [...classes.entries()].reverse()) {
    const count = (taken[index] as Uint32Array)[Math.floor(cost / unit)] as number;
    for (const member of members.slice(0, count)) selected[member] = true;
    cost -= count * each;
  }
  return selected;
}

/**
 * From the first to the last every item that still fits a budget. Where that stays over 2 % short, the last of them are given up, as few
 * as it takes, until others fill what they leave.
 * @param order the best first
 * @param held what counts besides, whatever is chosen
 */
export function firstWithinBudget<Item extends Pick<BudgetItem, 'cost'>>(
  order: readonly Item[],
  budget: number,
  held = 0,
): Item[] {
  const fitting: Item[] = [];
  for (const item of order) if (item.cost <= budget - held - costOf(fitting)) fitting.push(item);
  for (let count = fitting.length; count >= 0; count--) {
    const first = fitting.slice(0, count);
    const others = order.filter((item) => !first.includes(item));
    const filling = selectWithinBudget(
      others.map(({ cost }) => ({ cost, value: 0 })),
      budget - held - costOf(first),
    );
    const chosen = [...first, ...others.filter((_, index) => filling[index])];
    if (isNearBudget(held + costOf(chosen), budget)) return chosen;
  }
  return fitting;
}

/** What some items cost together. */
function costOf(items: readonly Pick<BudgetItem, 'cost'>[]): number {
  return items.reduce((sum, { cost }) => sum + cost, 0);
}

/** What one rank of a module stores: a row of A and a column of B. */
export function rankCost({ inFeatures, outFeatures }: Site): number {
  return inFeatures + outFeatures;
}

/** What one rank in every module stores. */
export function rankUnit(sites: readonly Site[]): number {
  return total(sites, rankCost);
}

/** How many ranks a run that chooses starts with for each that it keeps. */
export const RANKS_PER_KEPT_RANK = 1.5;

/**
 * And the fewest. At first a rank sees the gradient along one random direction of A: with two of them it is a matter of luck how much of
 * the gradient a module sees, with eight less so.
 */
const FEWEST_TO_CHOOSE_FROM = 8;

/**
 * The rank that every module starts with where a run chooses the ranks to keep within a budget: no more than the smaller side of any
 * module, unless the budget needs it.
 * @param budget parameters to store
 * @param fewest ranks at least
 */
export function rankToChooseFrom(sites: readonly Site[], budget: number, fewest = FEWEST_TO_CHOOSE_FROM): number {
  const possible = Math.min(...sites.map(({ inFeatures, outFeatures }) => Math.min(inFeatures, outFeatures)));
  return Math.max(Math.min(fewest, possible), Math.ceil((RANKS_PER_KEPT_RANK * budget) / rankUnit(sites)));
}

/**
 * Checks that a budget is no larger than what modules store at full rank: min(in, out) times in + out each.
 * @throws ConfigError naming the largest budget, for one above it.
 */
export function assertWithinModules(sites: readonly Site[], budget: number): void {
  const most = total(sites, (site) => Math.min(site.inFeatures, site.outFeatures) * rankCost(site));
  if (sites.length === 0 || !(budget > most)) return;
  const modules = sites.length === 1 ? 'this module holds' : `these ${sites.length} modules hold`;
  throw new ConfigError(
    `budget is ${budget}; ${modules} at most ${most} parameters, at full rank: ask for less, or adapt more modules`,
    'budget',
  );
}

/** Checks that a budget is no larger than the model that it is for. @throws ConfigError naming the largest budget. */
export function assertWithinBase(budget: number, base: number): void {
  if (budget <= base) return;
  throw new ConfigError(`budget is ${budget}; the base model has ${base} parameters: ask for at most that`, 'budget');
}

/** That a budget pays for one rank of the smallest module. @throws ConfigError when it does not. */
export function assertOneRank(sites: readonly Site[], budget: number): void {
  const least = Math.min(...sites.map(rankCost));
  if (budget >= least) return;
  throw new ConfigError(`budget is ${budget}; one rank of the smallest module stores ${least} parameters`, 'budget');
}

/** A rank for every module: `r`, but for those that `rankPattern` names by path. */
export interface RankTable {
  readonly r: number;
  readonly rankPattern: Record<string, number>;
  /** What these ranks cost together. */
  readonly cost: number;
}

/** How near a total should come to a budget, as a share of it. */
const NEAR = 0.02;

/** Whether a total comes within 2 % of a budget. */
export function isNearBudget(total: number, budget: number): boolean {
  return Math.abs(total - budget) <= NEAR * budget;
}

/**
 * The sites that a budget pays for, where an adapter of the least size costs `leastCost`: all of them where it can; otherwise
 * as many as come within 2 % of it, and of sites that cost the same those nearer to the output, for adapters of the lower
 * layers are missed least (Rücklé et al., 2021, arXiv 2010.11918).
 *
 * @throws ConfigError when it does not pay for one.
 */
export function sitesForBudget(
  sites: readonly Site[],
  budget: number,
  leastCost: (site: Site) => number,
): readonly Site[] {
  if (sites.length > 0 && total(sites, leastCost) <= (1 + NEAR) * budget) return sites;
  const fromAbove = [...sites].reverse();
  const items = fromAbove.map((site) => ({ value: 1, cost: leastCost(site) }));
  const selected = selectWithinBudget(items, budget || 0, { atLeast: (1 - NEAR) * budget });
  const kept = fromAbove.filter((_, index) => selected[index]).reverse();
  if (kept.length > 0) return kept;
  const least = Math.min(...sites.map(leastCost));
  throw new ConfigError(
    `budget is ${budget}; the smallest adapter of one of ${sites.length} modules takes ${least} parameters, ask for at least that`,
    'budget',
  );
}

/**
 * Ranks that cost `budget` together or just less: the same rank everywhere where that fits, otherwise one more for some
 * modules, and more than one only where the total would else be over 2 % short. Where it stays over 2 % short, up to 2 % more
 * than the budget, if that is nearer.
 *
 * @param unitCost what one rank of a module costs; default in + out.
 * @throws ConfigError when the budget is below rank 1 everywhere.
 */
export function ranksForBudget(
  sites: readonly Site[],
  budget: number,
  unitCost: (site: Site) => number = rankCost,
): RankTable {
  const within = ranksWithin(sites, budget, unitCost);
  if (within && isNearBudget(within.cost, budget)) return within;
  const above = ranksWithin(sites, (1 + NEAR) * budget, unitCost);
  if (within && above) return above.cost - budget < budget - within.cost ? above : within;
  if (above) return above;
  throw new ConfigError(
    `budget is ${budget}; rank 1 on ${sites.length} modules takes ${total(sites, unitCost)} parameters, ask for at least that or target fewer modules`,
    'budget',
  );
}

/** Ranks of at least one that cost as much of `budget` as possible and no more; undefined where there are none. */
function ranksWithin(sites: readonly Site[], budget: number, unitCost: (site: Site) => number): RankTable | undefined {
  const unit = total(sites, unitCost);
  if (!(budget >= unit) || sites.length === 0) return undefined;
  const r = Math.floor(budget / unit);
  const extra = extraRanks(sites, budget, r, unitCost);
  const ranks = Object.fromEntries(sites.map((site, index) => [site.path, r + (extra[index] as number)]));
  const cost = sites.reduce((sum, site, index) => sum + (r + (extra[index] as number)) * unitCost(site), 0);
  return { r, rankPattern: compactPattern(ranks, r), cost };
}

function total(sites: readonly Site[], cost: (site: Site) => number): number {
  return sites.reduce((sum, site) => sum + cost(site), 0);
}

/**
 * The entries of a pattern table that give every module its value: those that differ from `usual`. A path that would, as
 * a dotted suffix, speak for another module too is anchored by `^`.
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

/** Rank and alpha of a module. */
export interface ModuleRank {
  readonly r: number;
  readonly alpha: number;
}

/** Tables of ranks and alphas by module. */
interface RankPatterns {
  readonly rankPattern: Readonly<Record<string, number>>;
  readonly alphaPattern: Readonly<Record<string, number>>;
}

/** What a configuration gives the module at `path`. */
export function moduleRank(
  { r, alpha, rankPattern, alphaPattern }: ModuleRank & RankPatterns,
  path: string,
): ModuleRank {
  return { r: patternValue(rankPattern, path) ?? r, alpha: patternValue(alphaPattern, path) ?? alpha };
}

/** Tables by exact path that give modules these ranks and alphas, where they differ from the usual ones. */
export function rankPatterns(modules: Readonly<Record<string, ModuleRank>>, usual: ModuleRank): RankPatterns {
  const column = (key: keyof ModuleRank): Record<string, number> =>
    Object.fromEntries(Object.entries(modules).map(([path, rank]) => [path, rank[key]]));
  return {
    rankPattern: compactPattern(column('r'), usual.r),
    alphaPattern: compactPattern(column('alpha'), usual.alpha),
  };
}

/** Ranks beyond `r` for each site, as few as come near to what is left of the budget. */
function extraRanks(
  sites: readonly Site[],
  budget: number,
  r: number,
  unitCost: (site: Site) => number,
): readonly number[] {
  const left = budget - r * total(sites, unitCost);
  const room = sites.map((site) => {
    const useful = Math.max(1, Math.min(site.inFeatures, site.outFeatures) - r);
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
    if (left - stored <= NEAR * budget) break;
  }
  return extra;
}

/** How many of the ranks allowed per site fill the budget best; a second one for a site comes after everyone's first. */
function spreadRanks(costs: readonly number[], allowed: readonly number[], budget: number): number[] {
  const rounds = Array.from({ length: Math.max(...allowed) }, (_, round) =>
    costs.flatMap((cost, site) => (round < (allowed[site] as number) ? [{ site, cost, value: 0 }] : [])),
  ).flat();
  const selected = selectWithinBudget(rounds, budget);
  const counts = costs.map(() => 0);
  rounds.forEach(({ site }, index) => {
    if (selected[index]) counts[site] = (counts[site] as number) + 1;
  });
  return counts;
}

/** Items of one cost, best first, and the value of the first 0, 1, .. of them. */
interface CostClass {
  readonly cost: number;
  readonly members: readonly number[];
  readonly worth: readonly number[];
}

function costClasses(items: readonly BudgetItem[]): CostClass[] {
  const byCost = new Map<number, number[]>();
  items.forEach(({ cost }, index) => {
    const members = byCost.get(cost);
    if (members) members.push(index);
    else byCost.set(cost, [index]);
  });
  const valueOf = (index: number): number => (items[index] as BudgetItem).value;
  return [...byCost].map(([cost, indices]) => {
    const members = indices.sort((a, b) => valueOf(b) - valueOf(a) || a - b);
    let sum = 0;
    return { cost, members, worth: [0, ...members.map((index) => (sum += valueOf(index)))] };
  });
}

/** The width of a cell: the costs' common divisor, or more where that would make too many cells. */
function cellUnit(classes: readonly CostClass[], items: number, budget: number): number {
  const divisor = classes.reduce((divisor, { cost }) => greatestCommonDivisor(divisor, cost), 0) || 1;
  const cells = Math.max(1, Math.min(MAX_STEPS / Math.max(1, items), MAX_CELLS / Math.max(1, classes.length)));
  return Math.max(divisor, Math.ceil((budget + 1) / cells));
}

/** For each cell the best sum that falls into it. */
interface Sums {
  /** -1 where no sum falls. */
  readonly values: Float64Array;
  readonly costs: Float64Array;
}

/** The sums over all classes, and how many items of each class (in its order) the sum in a cell took on its way. */
function fillTable(
  classes: readonly CostClass[],
  budget: number,
  unit: number,
): { sums: Sums; taken: readonly Uint32Array[] } {
  const cells = Math.floor(budget / unit) + 1;
  let sums = noSums(cells);
  sums.values[0] = 0;
  const taken = classes.map((costClass) => {
    const next = noSums(cells);
    const counts = new Uint32Array(cells);
    sums.values.forEach((value, cell) => {
      if (value >= 0) extend({ value, cost: sums.costs[cell] as number }, costClass, next, counts, { budget, unit });
    });
    sums = next;
    return counts;
  });
  return { sums, taken };
}

function noSums(cells: number): Sums {
  return { values: new Float64Array(cells).fill(-1), costs: new Float64Array(cells) };
}

/** Adds 0, 1, .. items of a class to a sum, and keeps what is best in its cell. */
function extend(
  from: { readonly value: number; readonly cost: number },
  { cost, worth }: CostClass,
  to: Sums,
  counts: Uint32Array,
  { budget, unit }: { readonly budget: number; readonly unit: number },
): void {
  const most = Math.min(worth.length - 1, Math.floor((budget - from.cost) / cost));
  for (let count = 0; count <= most; count++) {
    const sum = from.cost + count * cost;
    const value = from.value + (worth[count] as number);
    const cell = Math.floor(sum / unit);
    const best = to.values[cell] as number;
    if (value < best || (value === best && sum <= (to.costs[cell] as number))) continue;
    to.values[cell] = value;
    to.costs[cell] = sum;
    counts[cell] = count;
  }
}

function bestSum({ values, costs }: Sums, atLeast: number): number {
  let best = -1;
  let fullest = 0;
  values.forEach((value, cell) => {
    if (value < 0) return;
    fullest = cell;
    const reaches = (costs[cell] as number) >= atLeast;
    if (reaches && (best < 0 || value >= (values[best] as number))) best = cell;
  });
  return costs[best < 0 ? fullest : best] as number;
}

function assertItem({ value, cost }: BudgetItem, index: number): void {
  if (!(value >= 0 && value < Infinity)) {
    throw new ConfigError(`item ${index} is worth ${value}; expected a number of at least 0`, 'value');
  }
  if (!Number.isInteger(cost) || cost <= 0) {
    throw new ConfigError(`item ${index} costs ${cost}; expected a whole number above 0`, 'cost');
  }
}

function greatestCommonDivisor(a: number, b: number): number {
  return b === 0 ? a : greatestCommonDivisor(b, a % b);
}
