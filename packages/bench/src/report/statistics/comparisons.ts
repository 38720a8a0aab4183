import { canonical } from '../../results/json.js';
import { primaryMetric, type DoneTrial, type TrialResult } from '../../results/schema.js';
import { estimate, estimateOverTasks, holm, signFlipTest, type Estimate } from './estimates.js';

/** Trials that differ in nothing but their seed. */
export interface Arm {
  /** Counts the arms of one name, budget and task, which differ in configuration, protocol or engine; oldest first. */
  readonly variant: number;
  /** The arm's name, with the variant where there are several. */
  readonly label: string;
  /** One trial a seed, by seed. */
  readonly trials: readonly [DoneTrial, ...DoneTrial[]];
}

/** Sorts finished trials into arms. */
export function armsOf(results: readonly TrialResult[]): Arm[] {
  const done = results.filter((result) => result.status === 'done').sort(byDate);
  const contests = grouped(done, ({ model, task, arm, budget }) => [model, task, arm, budget.spec]);
  return contests.flatMap((contest) => {
    const variants = grouped(contest, fixedFacts);
    return variants.map((trials, index) => ({
      variant: index + 1,
      label: variants.length > 1 ? `${trials[0].arm} (${index + 1})` : trials[0].arm,
      trials: newestOfEachSeed(trials),
    }));
  });
}

/** Lists of what has the same key, in order of appearance. A key is plain data; the order of its fields does not count. */
export function grouped<Item>(items: readonly Item[], key: (item: Item) => unknown): [Item, ...Item[]][] {
  const groups = new Map<string, [Item, ...Item[]]>();
  for (const item of items) {
    const text = canonical(key(item));
    const group = groups.get(text);
    if (group) group.push(item);
    else groups.set(text, [item]);
  }
  return [...groups.values()];
}

/**
 * Whether numbers of two trials may be compared seed by seed: all but the method and its configuration is the same. A trial
 * names the versions of what it used, so that each may name a package that the other does not.
 */
export function comparable(a: DoneTrial, b: DoneTrial): boolean {
  const agrees = ([name, version]: [string, string | number]): boolean => (b.versions[name] ?? version) === version;
  return canonical(circumstances(a)) === canonical(circumstances(b)) && Object.entries(a.versions).every(agrees);
}

function circumstances({ model, task, selection, engine, budget }: DoneTrial): unknown {
  return [model, task, selection.metric, engine, budget.matchedOn];
}

function fixedFacts(trial: DoneTrial): unknown {
  const { method, versions, methodConfig, learningRate, protocol } = trial;
  return [circumstances(trial), method, versions, methodConfig, learningRate, protocol];
}

function newestOfEachSeed([first, ...rest]: readonly [DoneTrial, ...DoneTrial[]]): [DoneTrial, ...DoneTrial[]] {
  const bySeed = new Map([first, ...rest].map((trial) => [trial.seed, trial]));
  const [lowest = first, ...others] = [...bySeed.values()].sort((a, b) => a.seed - b.seed);
  return [lowest, ...others];
}

function byDate(a: DoneTrial, b: DoneTrial): number {
  return Date.parse(a.finishedAt) - Date.parse(b.finishedAt);
}

/** A paired difference, one value for each seed (and task) that both sides have, and whether it can be chance. */
export interface PairedDifference extends Estimate {
  readonly pairs: number;
  /** Exact two-sided sign-flip permutation p. */
  readonly p: number;
}

/** Two arms at one budget: the primary metric of `a` minus that of `b`. */
export interface Comparison extends PairedDifference {
  readonly model: string;
  readonly budget: string;
  /** Null: over all tasks, each counting alike. */
  readonly task: string | null;
  /** Whether a negative difference is the good one. */
  readonly lowerIsBetter: boolean;
  /** Labels of the arms. */
  readonly a: string;
  readonly b: string;
  /** `p` by Holm's method: on a task, over the tasks for this pair and budget; over tasks, over the pairs of this budget. */
  readonly pHolm: number;
}

type Unadjusted = Omit<Comparison, 'pHolm'>;

/** Every pair of arms that was trained at the same budget, on each task and, of several, over them. */
export function compareArms(inAnyOrder: readonly Arm[]): Comparison[] {
  const arms = [...inAnyOrder].sort(byBudgetAndLabel);
  const onTasks = grouped(arms, ({ trials: [{ model, task, budget }] }) => [model, budget.spec, task]).flatMap(
    (contest) => pairsOf(contest).flatMap(([a, b]) => onTask(a, b)),
  );
  const overTasks = grouped(arms, ({ trials: [{ model, budget }] }) => [model, budget.spec]).flatMap((contest) =>
    pairsOf(grouped(contest, ({ label }) => label)).flatMap(([a, b]) => overAllTasks(a, b, contest)),
  );
  return [
    ...adjusted(onTasks, ({ model, budget, a, b }) => [model, budget, a, b]),
    ...adjusted(overTasks, ({ model, budget }) => [model, budget]),
  ];
}

/** The primary metric of `a` minus that of `b`, for each seed that both have. */
export function differencesBySeed(a: Arm, b: Arm): number[] {
  const valuesOfB = new Map(b.trials.map((trial) => [trial.seed, primaryMetric(trial)]));
  return a.trials.flatMap((trial) => {
    const other = valuesOfB.get(trial.seed);
    return other === undefined ? [] : [primaryMetric(trial) - other];
  });
}

/** What paired differences say. */
export function pairedDifference(differences: readonly number[]): PairedDifference {
  return { pairs: differences.length, ...estimate(differences), p: signFlipTest(differences) };
}

/**
 * What paired differences on several tasks say of the mean of the tasks' means: under the null hypothesis each seed of each task
 * could as well have had the other sign.
 */
export function pairedDifferenceOverTasks(byTask: readonly (readonly number[])[]): PairedDifference {
  const weighted = byTask.flatMap((differences) =>
    differences.map((difference) => difference / differences.length / byTask.length),
  );
  return { pairs: weighted.length, ...estimateOverTasks(byTask), p: signFlipTest(weighted) };
}

function onTask(a: Arm, b: Arm): Unadjusted[] {
  const [trial] = a.trials;
  const differences = comparable(trial, b.trials[0]) ? differencesBySeed(a, b) : [];
  if (differences.length === 0) return [];
  const { model, task, budget, selection } = trial;
  return [
    {
      ...{ model, budget: budget.spec, task, lowerIsBetter: selection.lowerIsBetter ?? false, a: a.label, b: b.label },
      ...pairedDifference(differences),
    },
  ];
}

/** One comparison where both arms were trained, under the same circumstances, on every task of the contest. */
function overAllTasks(a: readonly [Arm, ...Arm[]], b: readonly [Arm, ...Arm[]], contest: readonly Arm[]): Unadjusted[] {
  const tasks = [...new Set(contest.map(({ trials: [{ task }] }) => task))].sort();
  const directions = new Set(contest.map(({ trials: [{ selection }] }) => selection.lowerIsBetter ?? false));
  if (tasks.length < 2 || directions.size > 1) return []; // metrics of which more and less is better have no mean
  const byTask = tasks.map((task) => {
    const [ofA, ofB] = [a, b].map((arms) => arms.find(({ trials: [trial] }) => trial.task === task));
    return ofA && ofB && comparable(ofA.trials[0], ofB.trials[0]) ? differencesBySeed(ofA, ofB) : [];
  });
  if (byTask.some(({ length }) => length === 0)) return [];
  const [{ model, budget, selection }] = a[0].trials;
  const lowerIsBetter = selection.lowerIsBetter ?? false;
  return [
    {
      ...{ model, budget: budget.spec, task: null, lowerIsBetter, a: a[0].label, b: b[0].label },
      ...pairedDifferenceOverTasks(byTask),
    },
  ];
}

function adjusted(comparisons: readonly Unadjusted[], family: (comparison: Unadjusted) => unknown): Comparison[] {
  return grouped(comparisons, family).flatMap((members) => {
    const ps = holm(members.map(({ p }) => p));
    return members.map((member, index) => ({ ...member, pHolm: ps[index] as number }));
  });
}

function byBudgetAndLabel(a: Arm, b: Arm): number {
  const [{ model, budget, task }, other] = [a.trials[0], b.trials[0]];
  return (
    (budget.requested ?? -1) - (other.budget.requested ?? -1) ||
    task.localeCompare(other.task, 'en') ||
    a.label.localeCompare(b.label, 'en') ||
    model.localeCompare(other.model, 'en')
  );
}

/** Each pair once, the items in their order. */
function pairsOf<Item>(items: readonly Item[]): [Item, Item][] {
  return items.flatMap((first, index) => items.slice(index + 1).map((second): [Item, Item] => [first, second]));
}
