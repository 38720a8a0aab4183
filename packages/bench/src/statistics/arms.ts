import { canonical } from '../canonical.js';
import type { DoneTrial, TrialResult } from '../results/schema.js';

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
