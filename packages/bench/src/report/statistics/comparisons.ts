import { grouped as groupedBy } from '@peftjs/core/method';
import { canonical, type DoneTrial, type Protocol, type TrialResult } from '@peftjs/cli/results';
import { meanWithError, testEquivalence, type Equivalence } from './equivalence.js';
import { holm, holmOfGroups, signFlipTestOverTasks, type Estimate } from './estimates.js';
import { differencesOf, estimateOf, type Sample } from './resampling.js';

/** Trials that differ only in their seed. */
export interface Arm {
  /**
   * The number of the variant, from 1, among arms with the same name, budget and task but another configuration,
   * protocol or engine: first the one whose configuration is the oldest on any task.
   */
  readonly variant: number;
  /** The arm's name, with the variant if there are several. */
  readonly label: string;
  /** One trial per seed, sorted by seed. */
  readonly trials: readonly [DoneTrial, ...DoneTrial[]];
}

/** Groups finished trials into arms. */
export function armsOf(results: readonly TrialResult[]): Arm[] {
  const done = withContent(results.filter((result) => result.status === 'done').sort(byDate));
  const configurations = [...new Set(done.map(configurationOf))];
  // Task by task, since the rows of a task share their resamples.
  const contests = grouped(done, ({ model, task }) => [model, task]).flatMap((onTask) =>
    grouped(onTask, ({ arm, budget }) => [arm, budget.spec]),
  );
  return contests.flatMap((contest) => {
    const variants = grouped(contest, fixedFacts).sort(by(([first]) => configurations.indexOf(configurationOf(first))));
    return variants.map((trials, index) => ({
      variant: index + 1,
      label: variants.length > 1 ? `${trials[0].arm} (${index + 1})` : trials[0].arm,
      trials: newestOfEachSeed(trials),
    }));
  });
}

/**
 * Fills in the content of trials in older files that do not state it: that of the other trials on their task, if these
 * agree.
 */
function withContent(trials: readonly DoneTrial[]): DoneTrial[] {
  return grouped(trials, ({ model, task }) => [model, task]).flatMap((onTask) => {
    const [content, ...others] = new Set(onTask.flatMap((trial) => trial.content ?? []));
    return content === undefined || others.length > 0 ? onTask : onTask.map((trial) => ({ ...trial, content }));
  });
}

/**
 * Groups items with equal keys, in order of first appearance. A key is plain data; the order of its fields does not
 * matter.
 */
export function grouped<Item>(items: readonly Item[], key: (item: Item) => unknown): [Item, ...Item[]][] {
  return [...groupedBy(items, (item) => canonical(key(item))).values()];
}

/** Orders items by one key after another: numbers from the smallest, names as in English. */
export function by<Item>(...keys: readonly ((item: Item) => string | number)[]): (a: Item, b: Item) => number {
  const compare = (a: string | number, b: string | number): number =>
    typeof a === 'number' ? a - Number(b) : a.localeCompare(String(b), 'en');
  return (a, b) => keys.reduce((before, key) => before || compare(key(a), key(b)), 0);
}

/**
 * Whether numbers of two trials may be compared seed by seed, that is, everything but the method and its configuration
 * is the same. Each trial may record versions of packages that the other does not use.
 */
export function comparable(a: DoneTrial, b: DoneTrial): boolean {
  const agrees = ([name, version]: [string, string | number]): boolean => (b.versions[name] ?? version) === version;
  const inStages = Boolean(a.protocol.stages ?? b.protocol.stages);
  return (
    canonical(circumstances(a, inStages)) === canonical(circumstances(b, inStages)) &&
    Object.entries(a.versions).every(agrees)
  );
}

function circumstances(trial: DoneTrial, inStages: boolean): unknown {
  const { model, task, content = null, selection, engine, budget, protocol } = trial;
  return [model, task, content, selection.metric, engine, budget.matchedOn, sharedProtocol(protocol, inStages)];
}

/**
 * The protocol without what an arm chooses for itself (its head, its stages and, in stages, its epochs), learning
 * rates, and words. A setting that is null counts as absent, and so does a dropout of 0, its default.
 */
function sharedProtocol({ data, ...protocol }: Protocol, inStages: boolean): [settings: unknown, rows: unknown] {
  const own = ['head', 'stages', 'learningRate', 'selectedOn', ...(inStages ? ['epochs'] : [])];
  const isSet = ([name, value]: [string, unknown]): boolean =>
    value !== null && !(name === 'dropout' && value === 0) && !own.includes(name);
  const settings = Object.entries(protocol).filter(isSet);
  return [Object.fromEntries(settings), data.rows];
}

function fixedFacts(trial: DoneTrial): unknown {
  return [circumstances(trial, false), configurationOf(trial)];
}

/** What may be the same on several tasks, as text. */
function configurationOf(trial: DoneTrial): string {
  const { method, versions, methodConfig, learningRate, learningRates = null, protocol } = trial;
  const { head, stages = null, learningRate: ofHead } = protocol;
  const [settings] = sharedProtocol(protocol, false);
  return canonical([settings, method, versions, methodConfig, learningRate, learningRates, { head, stages, ofHead }]);
}

/** The seeds of an arm, in order. */
export function seedsOf({ trials }: Arm): number[] {
  return trials.map(({ seed }) => seed);
}

/** Says that an arm lacks seeds of its rivals, which may have as many but others; null if it has them all. */
export function missingSeeds(own: readonly number[], ...rivals: readonly (readonly number[])[]): string | null {
  const { size } = new Set([own, ...rivals].flat());
  return own.length < size ? `${own.length} of ${size} seeds` : null;
}

function newestOfEachSeed([first, ...rest]: readonly [DoneTrial, ...DoneTrial[]]): [DoneTrial, ...DoneTrial[]] {
  const bySeed = new Map([first, ...rest].map((trial) => [trial.seed, trial]));
  const [lowest = first, ...others] = [...bySeed.values()].sort((a, b) => a.seed - b.seed);
  return [lowest, ...others];
}

function byDate(a: DoneTrial, b: DoneTrial): number {
  return Date.parse(a.finishedAt) - Date.parse(b.finishedAt);
}

/** A paired difference with its test: one value per seed (and task) that both sides have. */
export interface PairedDifference extends Estimate {
  /** The number of pairs. */
  readonly pairs: number;
  /** The two-sided p of the exact sign-flip permutation test. */
  readonly p: number;
}

/**
 * The primary metric of arm `a` minus that of arm `b` at one budget. Arms without a budget are compared at every
 * budget.
 */
export interface Comparison extends PairedDifference {
  /** The model. */
  readonly model: string;
  /** The budget as typed. */
  readonly budget: string;
  /** The task; null for all tasks with equal weight. */
  readonly task: string | null;
  /** Whether lower values of the metric are better, so that a negative difference favours `a`. */
  readonly lowerIsBetter: boolean;
  /** The label of the first arm. */
  readonly a: string;
  /** The label of the second arm. */
  readonly b: string;
  /** `p`, Holm-adjusted over the pairs at this budget, on this task or over the tasks. */
  readonly pHolm: number;
  /** The test of equivalence; null if no margin was stated, or if the standard error is unknown (`meanWithError`). */
  readonly equivalence: Equivalence | null;
}

/** The arms that meet at one budget, on one or several tasks. */
interface Contest {
  readonly model: string;
  readonly budget: string;
  readonly arms: readonly Arm[];
}

/**
 * Compares every pair of arms at each budget: on each task and, if there are several, over the tasks.
 * @param margin the equivalence margin, in units of the primary metric; null if none was stated
 */
export function compareArms(inAnyOrder: readonly Arm[], margin: number | null = null): Comparison[] {
  const contests = contestsOf([...inAnyOrder].sort(byBudgetAndLabel));
  const onTasks = contests.flatMap((contest) =>
    grouped(contest.arms, taskOf).map((arms) => pairsIn({ ...contest, arms }, taskOf(arms[0]), margin)),
  );
  const overTasks = contests.map((contest) => pairsIn(contest, null, margin));
  return [...onTasks, ...overTasks].flatMap(adjusted);
}

/** The arms that meet at each budget of each model. */
function contestsOf(arms: readonly Arm[]): Contest[] {
  return grouped(arms, ({ trials: [{ model }] }) => model).flatMap((ofModel) =>
    atBudgets(ofModel, budgetOf).map(({ budget, items }): Contest => ({
      ...{ model: ofModel[0].trials[0].model, budget: budget.spec },
      arms: withNames(items, budget.spec).sort(by(taskOf, labelOf)),
    })),
  );
}

function budgetOf({ trials: [{ budget }] }: Arm): DoneTrial['budget'] {
  return budget;
}

/** A budget, as far as it tells arms apart. */
type Budget = Pick<DoneTrial['budget'], 'requested' | 'spec'>;

/** The items of each budget, with those that have none; without any budget, all of them together. */
export function atBudgets<Item, Of extends Budget>(
  items: readonly Item[],
  budgetOf: (item: Item) => Of,
): { readonly budget: Of; readonly items: readonly Item[] }[] {
  const open = items.filter((item) => budgetOf(item).requested === null);
  const budgeted = items.filter((item) => !open.includes(item));
  if (budgeted.length === 0) return open.slice(0, 1).map((first) => ({ budget: budgetOf(first), items }));
  return grouped(budgeted, (item) => budgetOf(item).spec).map(([first, ...rest]) => ({
    budget: budgetOf(first),
    items: [...open, first, ...rest],
  }));
}

/** What tells an arm of a summary apart from others. */
export interface Named {
  readonly model: string;
  readonly label: string;
  readonly budget: Budget;
}

/**
 * The name of an arm in the comparisons and verdicts at a budget. It is the label, with the arm's own budget if that is
 * not fixed and another of `arms` meets it there under the same label, such as an arm that chooses its size next to the
 * same arm at a given budget.
 */
export function nameAt(
  at: string,
  { model, label, budget: { requested, spec } }: Named,
  arms: readonly Named[],
): string {
  const isTwin = (other: Named): boolean =>
    other.model === model &&
    other.label === label &&
    other.budget.spec !== spec &&
    (other.budget.requested === null || other.budget.spec === at);
  return requested === null && arms.some(isTwin) ? `${label} (${spec})` : label;
}

/** What an arm is named by. */
export function namedOf({ label, trials: [{ model, budget }] }: Arm): Named {
  return { model, label, budget };
}

function withNames(arms: readonly Arm[], at: string): Arm[] {
  const named = arms.map(namedOf);
  return arms.map((arm) => ({ ...arm, label: nameAt(at, namedOf(arm), named) }));
}

const taskOf = ({ trials: [{ task }] }: Arm): string => task;
const lowerIsBetterIn = ({ trials: [{ selection }] }: Arm): boolean => selection.lowerIsBetter ?? false;
const labelOf = ({ label }: Arm): string => label;
const requestedOf = (arm: Arm): number => budgetOf(arm).requested ?? -1;
const byBudgetAndLabel = by(requestedOf, taskOf, labelOf, ({ trials: [{ model }] }: Arm) => model);

/**
 * Summarises and tests paired differences on one or several tasks by the mean of the tasks' means. Under the null
 * hypothesis, each seed of each task could equally well have had the opposite sign.
 */
export function pairedDifference(byTask: readonly Sample[]): PairedDifference {
  const values = byTask.map((sample) => sample.values);
  return { pairs: values.flat().length, ...estimateOf(byTask), p: signFlipTestOverTasks(values) };
}

/**
 * Every pair of arms of a contest that were trained under the same conditions on its task, or on every task (null).
 */
function pairsIn({ model, budget, arms }: Contest, task: string | null, margin: number | null): Comparison[] {
  const tasks = [...new Set(arms.map(taskOf))].sort();
  const directions = new Set(arms.map(lowerIsBetterIn));
  if (task === null && (tasks.length < 2 || directions.size > 1)) return []; // metrics with opposite directions cannot be averaged
  return pairsOf(grouped(arms, labelOf)).flatMap(([a, b]): Comparison[] => {
    const byTask = tasks.flatMap((each) => {
      const [ofA, ofB] = [a, b].map((ofArm) => ofArm.find((arm) => taskOf(arm) === each));
      return ofA && ofB && comparable(ofA.trials[0], ofB.trials[0]) ? [differencesOf(ofA.trials, ofB.trials)] : [];
    });
    if (byTask.length < tasks.length || byTask.some(({ values }) => values.length === 0)) return [];
    const lowerIsBetter = lowerIsBetterIn(a[0]);
    const difference = pairedDifference(byTask);
    const mean = margin === null ? null : meanWithError(byTask);
    const equivalence = mean && margin !== null ? testEquivalence(mean, margin, lowerIsBetter) : null;
    const names = { model, budget, task, lowerIsBetter, a: a[0].label, b: b[0].label };
    return [{ ...names, ...difference, pHolm: difference.p, equivalence }];
  });
}

/** Adjusts a family of comparisons for multiple testing; a missing test counts as p = 1. */
function adjusted(family: readonly Comparison[]): Comparison[] {
  const ps = holm(family.map(({ p }) => p));
  const equivalent = holm(family.map(({ equivalence }) => equivalence?.p ?? 1));
  const sides = holmOfGroups(
    family.map(({ equivalence }) => [equivalence?.aNoWorse.p ?? 1, equivalence?.bNoWorse.p ?? 1]),
  );
  return family.map(({ equivalence, ...member }, index) => {
    const [a, b] = sides[index] as [number, number];
    return {
      ...member,
      pHolm: ps[index] as number,
      equivalence: equivalence && {
        ...equivalence,
        pHolm: equivalent[index] as number,
        aNoWorse: { ...equivalence.aNoWorse, pHolm: a },
        bNoWorse: { ...equivalence.bNoWorse, pHolm: b },
      },
    };
  });
}

/** Each unordered pair once, with the items in order. */
export function pairsOf<Item>(items: readonly Item[]): [Item, Item][] {
  return items.flatMap((first, index) => items.slice(index + 1).map((second): [Item, Item] => [first, second]));
}
