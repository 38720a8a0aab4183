import { ConfigError } from '../errors.js';

/** How near a total should come to a budget, as a share of it. */
export const NEAR = 0.02;

/** Whether a total comes within 2 % of a budget. */
export function isNearBudget(total: number, budget: number): boolean {
  return Math.abs(total - budget) <= NEAR * budget;
}

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
