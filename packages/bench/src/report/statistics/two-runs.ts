import { mean } from 'simple-statistics';
import { canonical, primaryMetric, type DoneTrial, type TrialResult } from '@peftjs/cli/results';
import { armsOf, grouped, pairedDifference, type Arm, type PairedDifference } from './comparisons.js';
import { holm } from './estimates.js';
import { ofValues } from './resampling.js';
import type { SummaryRow } from './rows.js';

/** A measure of the same trials in two runs: both means, and the paired difference, here minus there. */
export interface Change extends PairedDifference {
  /** The mean of this run. */
  readonly here: number;
  /** The mean of the other run. */
  readonly there: number;
}

/** One arm at one budget on one task in both runs, over the seeds that both have. */
export interface RunDifference extends Pick<SummaryRow, 'model' | 'task' | 'label' | 'metric' | 'lowerIsBetter'> {
  /** The budget as typed. */
  readonly budget: string;
  /** The seeds of both runs. */
  readonly seeds: readonly number[];
  /** The primary metric; `pHolm` is adjusted over the tasks, for each arm and budget. */
  readonly score: Change & { readonly pHolm: number };
  /** Stored parameters. */
  readonly stored: Change;
  /** Seconds per trial. */
  readonly totalSeconds: Change;
  /** Milliseconds of the median step. */
  readonly stepMedianMs: Change;
  /** Peak memory, in bytes. */
  readonly peakRssBytes: Change;
}

/** Trials that only one of the runs has. */
export interface UnpairedTrials extends Pick<RunDifference, 'model' | 'task' | 'budget' | 'label'> {
  /** Which run has them. */
  readonly in: 'here' | 'there';
  /** The seeds that only this run has. */
  readonly seeds: readonly number[];
}

/** A version, an option or another setting that differs between the runs; null in a run that lacks it. */
export interface ChangedSetting {
  /** The name of the setting. */
  readonly what: string;
  /** Its value in this run. */
  readonly here: string | null;
  /** Its value in the other run. */
  readonly there: string | null;
  /** The arms that it concerns. */
  readonly labels: readonly string[];
}

/** The comparison of two runs of one study, trial by trial: same arm, task, budget and seed. */
export interface RunComparison {
  /** The other run's folder. */
  readonly against: string;
  /** The differences. */
  readonly rows: readonly RunDifference[];
  /** The unpaired trials. */
  readonly unpaired: readonly UnpairedTrials[];
  /** The settings that differ. */
  readonly changed: readonly ChangedSetting[];
}

/** Compares the results `here` with those of another run, `there`, whose folder is `against`. */
export function compareRuns(
  here: readonly TrialResult[],
  there: readonly TrialResult[],
  against: string,
): RunComparison {
  const [ours, theirs] = [armsOf(here), armsOf(there)].map((arms) => new Map(arms.map((arm) => [keyOf(arm), arm]))) as [
    Map<string, Arm>,
    Map<string, Arm>,
  ];
  const both = [...ours].flatMap(([key, arm]) => {
    const other = theirs.get(key);
    return other ? [{ arm, other }] : [];
  });
  return {
    against,
    rows: withHolm(both.flatMap(({ arm, other }) => differenceOf(arm, other))).sort(inReadingOrder),
    unpaired: [...unpairedOf('here', ours, theirs), ...unpairedOf('there', theirs, ours)].sort(inReadingOrder),
    changed: changesOf(both),
  };
}

function keyOf({ label, trials: [{ model, task, budget }] }: Arm): string {
  return JSON.stringify([model, task, budget.spec, label]);
}

function differenceOf(arm: Arm, other: Arm): RunDifference[] {
  const pairs = arm.trials.flatMap((trial): [DoneTrial, DoneTrial][] => {
    const twin = other.trials.find(
      ({ seed, selection }) => seed === trial.seed && selection.metric === trial.selection.metric,
    );
    return twin ? [[trial, twin]] : [];
  });
  if (pairs.length === 0) return [];
  const [{ model, task, budget, selection }] = arm.trials;
  const score = changeOf(pairs, primaryMetric);
  return [
    {
      ...{ model, task, budget: budget.spec, label: arm.label },
      ...{ metric: selection.metric, lowerIsBetter: selection.lowerIsBetter ?? false },
      seeds: pairs.map(([{ seed }]) => seed),
      score: { ...score, pHolm: score.p },
      stored: changeOf(pairs, ({ parameters }) => parameters.stored),
      totalSeconds: changeOf(pairs, ({ time }) => time.totalSeconds),
      stepMedianMs: changeOf(pairs, ({ time }) => time.stepMedianMs),
      peakRssBytes: changeOf(pairs, ({ memory }) => memory.peakRssBytes),
    },
  ];
}

function changeOf(pairs: readonly (readonly [DoneTrial, DoneTrial])[], measure: (trial: DoneTrial) => number): Change {
  return {
    here: mean(pairs.map(([trial]) => measure(trial))),
    there: mean(pairs.map(([, twin]) => measure(twin))),
    ...pairedDifference([ofValues(pairs.map(([trial, twin]) => measure(trial) - measure(twin)))]),
  };
}

function withHolm(rows: readonly RunDifference[]): RunDifference[] {
  return grouped(rows, ({ model, label, budget }) => [model, label, budget]).flatMap((members) => {
    const ps = holm(members.map(({ score }) => score.p));
    return members.map((row, index) => ({ ...row, score: { ...row.score, pHolm: ps[index] as number } }));
  });
}

function unpairedOf(
  side: UnpairedTrials['in'],
  arms: ReadonlyMap<string, Arm>,
  others: ReadonlyMap<string, Arm>,
): UnpairedTrials[] {
  return [...arms].flatMap(([key, { label, trials }]) => {
    const paired = new Set(others.get(key)?.trials.map(({ seed }) => seed));
    const seeds = trials.map(({ seed }) => seed).filter((seed) => !paired.has(seed));
    const [{ model, task, budget }] = trials;
    return seeds.length === 0 ? [] : [{ in: side, model, task, budget: budget.spec, label, seeds }];
  });
}

/** Versions and settings that differ, each once with the arms that it concerns. */
function changesOf(both: readonly { readonly arm: Arm; readonly other: Arm }[]): ChangedSetting[] {
  const all = both.flatMap(({ arm, other }) => {
    const [here, there] = [factsOf(arm.trials[0]), factsOf(other.trials[0])];
    return [...new Set([...Object.keys(here), ...Object.keys(there)])]
      .filter((what) => here[what] !== there[what])
      .map((what) => ({ what, here: here[what] ?? null, there: there[what] ?? null, label: arm.label }));
  });
  return grouped(all, ({ what, here, there }) => [what, here, there]).map((same) => {
    const [{ what, here, there }] = same;
    return { what, here, there, labels: [...new Set(same.map(({ label }) => label))].sort() };
  });
}

function factsOf({
  method,
  content,
  budget: { requested, tolerance },
  versions,
  engine,
  protocol,
  methodConfig,
  learningRate,
  learningRates = {},
}: DoneTrial): Record<string, string> {
  const groups = {
    ...{ version: versions, engine, protocol, budget: { requested, tolerance }, option: methodConfig },
    'learning rate of': learningRates,
  };
  const named = Object.entries(groups).flatMap(([group, record]) =>
    Object.entries(record).map(([key, value]): [string, string] => [
      `${group} ${key}`,
      typeof value === 'string' ? value : canonical(value),
    ]),
  );
  return {
    ...{ method, 'learning rate': String(learningRate), ...Object.fromEntries(named) },
    ...(content !== undefined && { 'content of model and rows': content }),
  };
}

type SortKeys = Pick<RunDifference, 'model' | 'task' | 'budget' | 'label'>;

function inReadingOrder(a: SortKeys, b: SortKeys): number {
  const order = new Intl.Collator('en', { numeric: true });
  const keys = ['model', 'task', 'budget', 'label'] as const;
  return keys.reduce((before, key) => before || order.compare(a[key], b[key]), 0);
}
