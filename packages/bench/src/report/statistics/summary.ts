import { mean } from 'simple-statistics';
import { canonical, primaryMetric, type FailedTrial, type RunFile, type TrialResult } from '@peftjs/cli/results';
import { counted } from '@peftjs/cli/format';
import type { Compared } from '../contest.js';
import type { Findings } from '../findings.js';
import { verdictsOf } from '../verdict.js';
import { testClaims } from './claims.js';
import {
  armsOf,
  by,
  comparable,
  compareArms,
  grouped,
  missingSeeds,
  namedOf,
  seedsOf,
  type Arm,
  type Comparison,
  type Named,
} from './comparisons.js';
import { LEVEL } from './equivalence.js';
import { RESAMPLES, ROW_RESAMPLES, seedsToReach } from './estimates.js';
import { estimateOf, scoresOf, type Sample } from './resampling.js';
import { differenceTo, orientedScore, averageOverTasks, rankAmong, type Failure, type SummaryRow } from './rows.js';
import { stabilityOf, type StabilityRow } from './stability.js';
import type { RunComparison } from './two-runs.js';

/** The content of DIR/summary.json. */
export interface Summary extends Compared, Findings {
  /** The arm that differences are taken against. */
  readonly reference: string;
  /** What the intervals resample: seeds, or seeds and rows; `mixed` if only some files hold their rows. */
  readonly resampled: 'seeds' | 'seeds and rows' | 'mixed';
  /** For every arm and budget whose modules end with different ranks: whether the task or the seed decides them. */
  readonly stability: readonly StabilityRow[];
  /** Notes that readers must keep in mind. */
  readonly notes: readonly string[];
  /** The comparison with another run, if one was requested. */
  readonly against?: RunComparison;
}

/** A row before ranking. */
type UnrankedRow = Omit<SummaryRow, 'rank' | 'unranked'>;

/** What a study states before it runs, which its results do not hold. Default no margin and no claims. */
export type AnalysisPlan = Pick<RunFile, 'reference'> & Partial<RunFile>;

/** Computes statistics by arm, budget and task, over the tasks, and for every pair of arms. */
export function summarise(
  results: readonly TrialResult[],
  { reference, margin = null, claims = [] }: AnalysisPlan,
): Summary {
  const arms = armsOf(results);
  const scores = new Map(arms.map(({ trials }) => [trials[0].id, scoresOf(trials)]));
  const scoresIn = (id: string | undefined): Sample => scores.get(id ?? '') as Sample;
  const compared = { arms: arms.map(namedOf), comparisons: compareArms(arms, margin) };
  const { comparisons } = compared;
  const references = new Map(arms.map((arm) => [arm.trials[0].id, referenceOf(arm, arms, reference)]));
  const unranked = arms.map((arm): { readonly arm: Arm; readonly row: UnrankedRow } => {
    const row = rowOf(arm, scoresIn(arm.trials[0].id));
    const to = references.get(arm.trials[0].id);
    return { arm, row: { ...row, difference: to ? differenceTo(to, row, row.task, compared) : null } };
  });
  const rivalsOf = (arm: Arm): UnrankedRow[] =>
    unranked.filter((other) => inOneContest(arm, other.arm)).map(({ row }) => row);
  const rows = unranked.map(({ arm, row }) => withRank(row, rivalsOf(arm))).sort(inReadingOrder);
  const overall = averageOverTasks(rows, {
    comparisons,
    reference: ({ trials: [first] }) => references.get(first ?? ''),
    scores: ({ trials: [first] }) => scoresIn(first),
  });
  const failed = results.flatMap((result) => (result.status === 'done' ? [] : [failureOf(result)]));
  const noted: Noted = {
    ...{ reference, margin, claims: testClaims(claims, arms, margin), resampled: resampledIn(rows) },
    ...{ rows, overall, comparisons, failed },
  };
  return { ...noted, verdicts: verdictsOf(noted), stability: stabilityOf(arms), notes: notesOn(noted) };
}

function resampledIn(rows: readonly SummaryRow[]): Summary['resampled'] {
  const known = rows.filter(({ resampledRows }) => resampledRows > 0).length;
  if (known === 0) return 'seeds';
  return known === rows.length ? 'seeds and rows' : 'mixed';
}

function rowOf(arm: Arm, scores: Sample): UnrankedRow {
  const [first] = arm.trials;
  const { requested, spec, matchedOn } = first.budget;
  return {
    ...{ model: first.model, task: first.task, metric: first.selection.metric },
    lowerIsBetter: first.selection.lowerIsBetter ?? false,
    ...{ arm: first.arm, method: first.method, variant: arm.variant, label: arm.label },
    budget: { requested, spec, matchedOn, met: arm.trials.every(({ budget }) => budget.met) },
    baseline: arm.trials.every(({ parameters }) => parameters.storedMean === 0),
    trials: arm.trials.map(({ id }) => id),
    seeds: seedsOf(arm),
    values: arm.trials.map(primaryMetric),
    score: estimateOf([scores]),
    difference: null,
    resampledRows: scores.rows,
    parameters: meansOf(arm.trials.map(({ parameters }) => parameters)),
    learningRate: first.learningRate,
    ...(first.scale !== undefined && { scale: first.scale }),
    time: meansOf(arm.trials.map(({ time }) => time)),
    peakRssBytes: Math.max(...arm.trials.map(({ memory }) => memory.peakRssBytes)),
  };
}

/**
 * The reference arm at the same budget or, if there is none, without one; of several, the one trained under the same
 * protocol.
 */
function referenceOf(arm: Arm, arms: readonly Arm[], reference: string): Named | undefined {
  const [trial] = arm.trials;
  if (trial.arm === reference) return undefined;
  const candidates = arms.filter(
    ({ trials: [other] }) =>
      other.arm === reference &&
      (other.budget.spec === trial.budget.spec || other.budget.requested === null) &&
      comparable(other, trial),
  );
  const protocol = canonical(trial.protocol);
  const closest = by<Arm>(
    ({ trials: [{ budget }] }) => Number(budget.spec !== trial.budget.spec),
    ({ trials: [other] }) => Number(canonical(other.protocol) !== protocol),
  );
  return candidates.sort(closest).map(namedOf)[0];
}

/** Ranks a row among its rivals, of which it is one. */
function withRank(row: UnrankedRow, rivals: readonly UnrankedRow[]): SummaryRow {
  const unranked = reasonAgainst(row, rivals);
  if (unranked !== null) return { ...row, rank: null, unranked };
  const ranked = rivals.filter((other) => reasonAgainst(other, rivals) === null);
  return { ...row, rank: rankAmong(row, ranked), unranked: null };
}

function reasonAgainst(row: UnrankedRow, rivals: readonly UnrankedRow[]): string | null {
  if (row.budget.requested === null) return 'no budget';
  if (!row.budget.met) return 'budget missed';
  return missingSeeds(row.seeds, ...rivals.map(({ seeds }) => seeds));
}

function inOneContest({ trials: [a] }: Arm, { trials: [b] }: Arm): boolean {
  return a.budget.spec === b.budget.spec && comparable(a, b);
}

const inReadingOrder = by<SummaryRow>(
  ({ model }) => model,
  ({ task }) => task,
  ({ budget }) => budget.requested ?? -1,
  ({ rank }) => Number(rank === null),
  (row) => -orientedScore(row),
  ({ label }) => label,
);

function meansOf<const Names extends string>(
  records: readonly Readonly<Record<Names, number>>[],
): Record<Names, number> {
  const names = Object.keys(records[0] ?? {}) as Names[];
  return Object.fromEntries(names.map((name) => [name, mean(records.map((record) => record[name]))])) as Record<
    Names,
    number
  >;
}

function failureOf({ id, arm, method, task, seed, budget, error }: FailedTrial): Failure {
  return { id, arm, method, task, seed, budget: budget.spec, message: error.message };
}

/** The parts of a summary that notes refer to. */
type Noted = Omit<Summary, 'notes' | 'verdicts' | 'stability' | 'against'>;

/** The notes on a summary, one sentence each. */
function notesOn(summary: Noted): string[] {
  return [...seedNotes(summary), ...comparisonNotes(summary), ...equivalenceNotes(summary), ...overallNotes(summary)];
}

function seedNotes({ rows, resampled }: Noted): string[] {
  if (rows.length === 0) return ['No trial has finished.'];
  const several = rows.filter(({ seeds }) => seeds.length > 1);
  const fewest = Math.min(...several.map(({ seeds }) => seeds.length));
  const single =
    several.length < rows.length ? ['Some rows rest on one seed: they have no spread and no interval.'] : [];
  if (several.length === 0) return single;
  const of = {
    seeds: `the mean over seeds (${RESAMPLES} resamples); what other rows would give they do not say`,
    'seeds and rows': `the mean: seeds and reported rows are both resampled, the same rows for all arms of a task (${ROW_RESAMPLES} resamples)`,
    mixed: `the mean over seeds and, of tasks whose result files hold their rows, over rows`,
  };
  const few =
    fewest > 10
      ? ''
      : ` With ${fewest} seeds they are ${fewest > 3 ? 'too narrow' : 'little more than the range seen'}.`;
  return [...single, `Intervals are 95 % percentile bootstrap intervals of ${of[resampled]}.${few}`];
}

function comparisonNotes({ rows, comparisons, reference }: Noted): string[] {
  const isRival = ({ arm, baseline }: SummaryRow): boolean => !baseline && arm !== reference;
  const isAlone = rows.some(isRival) && rows.every(({ difference }) => difference === null);
  const alone = isAlone ? [`No row can be compared with '${reference}' seed by seed.`] : [];
  const ofTasks = comparisons.filter(({ task }) => task !== null);
  if (ofTasks.length === 0) return alone;
  const family = Math.max(...onTasks(comparisons).map((contest) => contest.length));
  return [
    ...alone,
    'Differences are paired by seed; p is the exact two-sided sign-flip permutation p. ' +
      `The adjusted p is Holm's over the ${counted(family, 'pair')} of arms at a budget on a task; the numbers of tasks and of budgets are not corrected for.`,
    ...reachNotes(Math.max(...ofTasks.map(({ pairs }) => pairs)), family),
  ];
}

/** The families of comparisons on a single task. */
function onTasks(comparisons: readonly Comparison[]): Comparison[][] {
  const single = comparisons.filter(({ task }) => task !== null);
  return grouped(single, ({ model, budget, task }) => [model, budget, task]);
}

/** Notes on what the number of seeds cannot show. */
function reachNotes(seeds: number, family: number): string[] {
  const least = 2 / 2 ** seeds;
  if (seeds < seedsToReach(1)) {
    return [
      `On a single task, with ${counted(seeds, 'paired seed')}, the smallest possible p is ${least}: p < 0.05 cannot be reached with fewer than ${seedsToReach(1)} seeds.`,
    ];
  }
  if (family * least < LEVEL) return [];
  return [
    `On a single task ${seeds} paired seeds cannot pass Holm's correction: the smallest possible p is ${least}, and ${Math.min(1, family * least)} over ${counted(family, 'pair')}. It takes ${seedsToReach(family)} seeds, or a claim over tasks.`,
  ];
}

function equivalenceNotes({ margin, comparisons, resampled }: Noted): string[] {
  if (margin === null || comparisons.every(({ equivalence }) => equivalence === null)) return [];
  const rows = resampled === 'seeds' ? '' : ', with the variance of the rows added to that of the seeds';
  return [
    `Equivalence within ${margin}, the margin stated before the run, is tested by two one-sided t tests at 5 % on differences paired by seed${rows}; its adjusted p is Holm's over the pairs of a budget. A difference that is not found is no equivalence.`,
  ];
}

function overallNotes({ rows, overall, comparisons }: Noted): string[] {
  const isMixed = (ofModel: Noted['rows']): boolean => new Set(ofModel.map((row) => row.lowerIsBetter)).size > 1;
  const models = grouped(rows, ({ model }) => model);
  const none = models.some(isMixed)
    ? ['There is no mean over tasks: of some metrics more is better, of others less.']
    : [];
  const metrics = [...new Set(overall.flatMap((row) => row.metrics))];
  if (overall.length === 0) return none;
  const mixed = metrics.length > 1 ? `, though they are of ${metrics.join(', ')}` : '';
  const pairs = comparisons.some(({ task }) => task === null)
    ? ' p comes from a sign-flip test over all seeds and tasks; the adjusted p is Holm-corrected over the pairs of arms at a budget.'
    : '';
  return [
    `Means over tasks weight every task equally${mixed}; the interval covers other seeds on these tasks, not other tasks.${pairs}`,
  ];
}
