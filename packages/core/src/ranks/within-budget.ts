import { ConfigError } from '../errors.js';
import { grouped, sumOf } from '../tensors.js';

/** How close a total should come to a budget, as a share of it. */
export const NEAR_SHARE = 0.02;

/** Returns whether a total is within 2 % of a budget. */
export function isNearBudget(total: number, budget: number): boolean {
  return Math.abs(total - budget) <= NEAR_SHARE * budget;
}

/** An item that can be selected. */
export interface BudgetItem {
  /** Its value, at least zero. */
  readonly value: number;
  /** Its cost, a whole number above zero. */
  readonly cost: number;
}

/** Limits on the work and memory of a selection: items times cells, and cost classes times cells. */
const MAX_STEPS = 2 ** 26;
const MAX_CELLS = 2 ** 24;

/**
 * Selects the items of the highest total value within a budget: an exact 0/1 knapsack. Of selections of equal value,
 * the one that fills more of the budget wins, so that items of value 0 still fill the rest; ties go to lower indices.
 *
 * Within a class of equal cost the best items come first, so one pass per class over the sums of costs is enough. Sums
 * are counted in units of the costs' common divisor. Where that would take too much memory or time, the unit is
 * coarser: sums that share a cell then compete, and the budget still holds exactly.
 *
 * Sums below `atLeast` are selected only if no other can be reached; then the greatest sum wins.
 *
 * @returns the selected items, in their order
 * @throws ConfigError for a value below zero or a cost that is no whole number above zero.
 */
export function selectWithinBudget<Item extends BudgetItem>(
  items: readonly Item[],
  budget: number,
  { atLeast = 0 }: { readonly atLeast?: number } = {},
): Item[] {
  items.forEach(assertItem);
  const room = Math.max(0, Math.floor(budget));
  const classes = costClasses(items);
  const unit = cellUnit(classes, items.length, room);
  const { sums, chosen } = fillTable(classes, room, unit);
  const selected = items.map(() => false);
  let cost = bestSum(sums, atLeast);
  for (const [index, { cost: each, members }] of [...classes.entries()].reverse()) {
    const count = (chosen[index] as Uint32Array)[Math.floor(cost / unit)] as number;
    for (const member of members.slice(0, count)) selected[member] = true;
    cost -= count * each;
  }
  return items.filter((_, index) => selected[index]);
}

/**
 * Selects, from first to last, every item that still fits a budget. If the total stays over 2 % short, it drops as few
 * of the last items as needed for others to fill the gap.
 * @param order the items, best first
 * @param held a cost that is counted in any case
 */
export function firstWithinBudget<Item extends Pick<BudgetItem, 'cost'>>(
  order: readonly Item[],
  budget: number,
  held = 0,
): Item[] {
  const costOf = (items: readonly Item[]): number => sumOf(items, ({ cost }) => cost);
  const fitting: Item[] = [];
  for (const item of order) if (item.cost <= budget - held - costOf(fitting)) fitting.push(item);
  if (fitting.length === order.length) return fitting;
  for (let count = fitting.length; count >= 0; count--) {
    const first = fitting.slice(0, count);
    const others = order.filter((item) => !first.includes(item));
    const offered = others.map((item) => ({ item, cost: item.cost, value: 0 }));
    const filling = selectWithinBudget(offered, budget - held - costOf(first));
    const chosen = [...first, ...filling.map(({ item }) => item)];
    if (isNearBudget(held + costOf(chosen), budget)) return chosen;
  }
  return fitting;
}

/** The items of one cost, best first. */
interface CostClass {
  /** The cost of each of them. */
  readonly cost: number;
  /** The items' indices. */
  readonly members: readonly number[];
  /** The total value of the first 0, 1, .. of them. */
  readonly totals: readonly number[];
}

function costClasses(items: readonly BudgetItem[]): CostClass[] {
  const valueOf = (index: number): number => (items[index] as BudgetItem).value;
  return [...grouped(items.keys(), (index) => items[index]?.cost as number)].map(([cost, indices]) => {
    const members = indices.sort((a, b) => valueOf(b) - valueOf(a) || a - b);
    let sum = 0;
    return { cost, members, totals: [0, ...members.map((index) => (sum += valueOf(index)))] };
  });
}

/** Returns the width of a cell: the costs' common divisor, or more where that would make too many cells. */
function cellUnit(classes: readonly CostClass[], items: number, budget: number): number {
  const divisor = classes.reduce((divisor, { cost }) => greatestCommonDivisor(divisor, cost), 0) || 1;
  const cells = Math.max(1, Math.min(MAX_STEPS / Math.max(1, items), MAX_CELLS / Math.max(1, classes.length)));
  return Math.max(divisor, Math.ceil((budget + 1) / cells));
}

/** The best sum in each cell. */
interface Sums {
  /** The total value; -1 for a cell without a sum. */
  readonly values: Float64Array;
  /** The total cost. */
  readonly costs: Float64Array;
}

/**
 * Returns the sums over all classes, and for each class (in its order) how many of its items the sum in a cell
 * contains.
 */
function fillTable(
  classes: readonly CostClass[],
  budget: number,
  unit: number,
): { sums: Sums; chosen: readonly Uint32Array[] } {
  const cells = Math.floor(budget / unit) + 1;
  let sums = noSums(cells);
  sums.values[0] = 0;
  const chosen = classes.map((costClass) => {
    const next = noSums(cells);
    const counts = new Uint32Array(cells);
    sums.values.forEach((value, cell) => {
      if (value >= 0) extend({ value, cost: sums.costs[cell] as number }, costClass, next, counts, { budget, unit });
    });
    sums = next;
    return counts;
  });
  return { sums, chosen };
}

function noSums(cells: number): Sums {
  return { values: new Float64Array(cells).fill(-1), costs: new Float64Array(cells) };
}

/** Adds 0, 1, .. items of a class to a sum, and keeps the best result per cell. */
function extend(
  from: { readonly value: number; readonly cost: number },
  { cost, totals }: CostClass,
  to: Sums,
  counts: Uint32Array,
  { budget, unit }: { readonly budget: number; readonly unit: number },
): void {
  const most = Math.min(totals.length - 1, Math.floor((budget - from.cost) / cost));
  for (let count = 0; count <= most; count++) {
    const sum = from.cost + count * cost;
    const value = from.value + (totals[count] as number);
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
