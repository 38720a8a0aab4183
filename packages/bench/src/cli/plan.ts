import { ConfigError, DataError } from '@peftjs/core/method';
import { commandName } from '../registry/command-name.js';
import { formatDuration, formatSmall } from '../report/format.js';
import { POWER, reachOf, spreadsOf, type Reach, type Spread } from '../report/statistics/power.js';
import { ofNewestNumerics, readResults } from '../results/files.js';
import { measureTasks, MEASURED_STEPS, type MeasuredTask } from '../run/measure-steps.js';
import { planTrials, type Trial, type TrialContext } from '../study/trials.js';
import { countTuning, planTuning, trialsOf } from '../study/tuning.js';

/** Flags of a plan. */
export interface PlanFlags {
  readonly plan?: boolean;
  /** Standard deviation over seeds of a paired difference. */
  readonly spread?: number;
  /** A folder whose results tell it. */
  readonly spreadFrom?: string;
}

/** What a study will take and what it can show, before it is run. */
export interface Plan {
  readonly trials: {
    readonly reported: number;
    /** Those that tune, and the most that grids which are widened make of them. */
    readonly tuning: number;
    readonly tuningAtMost: number;
  };
  readonly seconds: { readonly planned: number; readonly most: number; readonly workers: number };
  readonly measured: readonly MeasuredTask[];
  /** The margin that the study states; null where it states none. */
  readonly margin: number | null;
  /** What was assumed of differences, by task; null where nothing is known. */
  readonly spreads: Readonly<Record<string, Spread>> | null;
  readonly budgets: readonly PlannedBudget[];
}

/** What is compared at one budget. */
interface PlannedBudget {
  readonly budget: string;
  readonly arms: number;
  readonly pairs: number;
  readonly seeds: number;
  readonly tasks: number;
  /** Null of a study with one task. */
  readonly overTasks: Reach | null;
  readonly onTask: Reach;
}

/** @throws ConfigError for flags of a plan without one, and for two spreads. */
export function checkPlanFlags({ plan, spread, spreadFrom }: PlanFlags): void {
  if (spread !== undefined && spreadFrom !== undefined) {
    throw new ConfigError('--spread and --spread-from are two ways to say one thing; leave one out', 'spread');
  }
  if (plan || (spread === undefined && spreadFrom === undefined)) return;
  const flag = spread === undefined ? 'spread-from' : 'spread';
  throw new ConfigError(`--${flag} is for --plan, which says what a study can show before it is run`, flag);
}

/** Where a plan knows the spread of differences from. */
type SpreadSource = Pick<PlanFlags, 'spread' | 'spreadFrom'> & { readonly out: string };

/**
 * By how much arms differ by chance, as stated or in earlier results; null where nothing says it.
 * @throws DataError for a named folder that does not tell.
 */
export async function knownSpreads(
  { spread, spreadFrom, out }: SpreadSource,
  tasks: readonly string[],
): Promise<Record<string, Spread> | null> {
  if (spread !== undefined) return Object.fromEntries(tasks.map((task) => [task, { seeds: spread, rows: null }]));
  const results = await readResults(spreadFrom ?? out);
  const found = results.length === 0 ? new Map<string, Spread>() : spreadsOf(ofNewestNumerics(results).results);
  if (found.size > 0) return Object.fromEntries(tasks.map((task) => [task, found.get(task) ?? typical(found)]));
  if (spreadFrom === undefined) return null;
  throw new DataError(`${spreadFrom} does not tell a spread: it takes results of two arms and two seeds`, spreadFrom);
}

/** The spread of a task that the earlier run did not have: the root mean square of those that it had. */
function typical(found: ReadonlyMap<string, Spread>): Spread {
  const spreads = [...found.values()];
  const rows = spreads.flatMap((spread) => spread.rows ?? []);
  return {
    seeds: rootMeanSquare(spreads.map(({ seeds }) => seeds)),
    rows:
      rows.length === 0
        ? null
        : {
            standardError: rootMeanSquare(rows.map(({ standardError }) => standardError)),
            count: Math.min(...rows.map(({ count }) => count)),
          },
  };
}

function rootMeanSquare(values: readonly number[]): number {
  return Math.sqrt(values.reduce((sum, value) => sum + value ** 2, 0) / values.length);
}

/** Measures a few steps, and says what the study takes and can show. Writes nothing. */
export async function planOf(
  plan: TrialContext,
  {
    workers,
    source,
    signal,
  }: { readonly workers: number; readonly source: SpreadSource; readonly signal: AbortSignal },
): Promise<Plan> {
  const spreads = await knownSpreads(source, plan.study.tasks);
  const reported = planTrials(plan);
  const tuning = countTuning(plan);
  const measured = await measureTasks(typicalTrials(reported, plan.study.reference), signal);
  const secondsOf = (trials: readonly Trial[]): number =>
    trials.reduce((sum, { task }) => sum + (measured.find((of) => of.task === task)?.trialSeconds ?? 0), 0) / workers;
  const [ofReported, ofTuning] = [secondsOf(reported), secondsOf(trialsOf(planTuning(plan)))];
  const widest = tuning.planned === 0 ? 0 : (ofTuning * tuning.most) / tuning.planned;
  return {
    trials: { reported: reported.length, tuning: tuning.planned, tuningAtMost: tuning.most },
    seconds: { planned: ofReported + ofTuning, most: ofReported + widest, workers },
    measured,
    margin: plan.study.margin,
    spreads,
    budgets: plannedBudgets(reported, spreads),
  };
}

/** A trial of each task that is like most others: of the reference, or of an arm that takes a budget. */
function typicalTrials(trials: readonly Trial[], reference: string | null): Trial[] {
  const tasks = [...new Set(trials.map(({ task }) => task))];
  return tasks.map((task) => {
    const ofTask = trials.filter((trial) => trial.task === task && !trial.settings.stages);
    const known = ofTask.find(({ arm }) => arm === reference) ?? ofTask.find(({ budget }) => budget !== null);
    return known ?? (trials.find((trial) => trial.task === task) as Trial);
  });
}

/** What is compared at each budget: its arms, and those that take part at every one because they have none. */
export function plannedBudgets(
  trials: readonly Trial[],
  spreads: Readonly<Record<string, Spread>> | null,
): PlannedBudget[] {
  const hasNone = ({ budget }: Trial): boolean => budget === null || budget.startsWith('auto');
  const open = new Set(trials.filter(hasNone).map(({ arm, budget }) => `${arm} ${budget}`)).size;
  const budgets = [...new Set(trials.filter((trial) => !hasNone(trial)).map(({ budget }) => budget as string))];
  const tasks = [...new Set(trials.map(({ task }) => task))];
  const seeds = new Set(trials.map(({ seed }) => seed)).size;
  const unknown: Spread = { seeds: 0, rows: null };
  const bySpread = tasks.map((task) => spreads?.[task] ?? unknown);
  const reaches = new Map<number, Pick<PlannedBudget, 'overTasks' | 'onTask'>>();
  return (budgets.length === 0 ? ['none'] : budgets).map((budget) => {
    const arms = open + new Set(trials.filter((trial) => trial.budget === budget).map(({ arm }) => arm)).size;
    const pairs = (arms * (arms - 1)) / 2;
    const typicalOne = typical(new Map(bySpread.map((spread, task) => [String(task), spread])));
    const reach = reaches.get(pairs) ?? {
      overTasks: tasks.length < 2 ? null : reachOf({ seeds, pairs, spreads: bySpread }),
      onTask: reachOf({ seeds, pairs, spreads: [typicalOne] }),
    };
    reaches.set(pairs, reach);
    return { budget, arms, pairs, seeds, tasks: tasks.length, ...reach };
  });
}

/** The plan in words. */
export function describePlan(plan: Plan): string {
  const { trials, seconds, measured, spreads, budgets } = plan;
  const tuning =
    trials.tuning === 0
      ? 'none of them tunes a learning rate'
      : `${trials.tuning} that tune learning rates${trials.tuningAtMost > trials.tuning ? `, up to ${trials.tuningAtMost} where a best rate lies at the edge of its grid` : ''}`;
  const most = seconds.most > seconds.planned ? `, ${formatDuration(seconds.most)} with wider grids` : '';
  return [
    `trials: ${trials.reported} that are reported; ${tuning}`,
    `time: about ${formatDuration(seconds.planned)}${most}, with ${count(seconds.workers, 'worker')}`,
    ...measured.map(
      ({ task, arm, stepMedianMs, rows, tokens, trialSeconds }) =>
        `  ${task}: ${stepMedianMs.toFixed(0)} ms a step, the median of ${MEASURED_STEPS} of ${arm} on ${rows} rows of ${tokens} tokens; ${formatDuration(trialSeconds)} a trial. Other arms are taken to be as fast.`,
    ),
    ...describeSpreads(spreads),
    ...budgets.flatMap((budget) => describeBudget(budget, plan)),
  ].join('\n');
}

function describeSpreads(spreads: Plan['spreads']): string[] {
  if (spreads === null) {
    return [
      'what can be shown depends on by how much two equal arms differ from seed to seed: state the standard deviation of their difference by --spread .01, or name an earlier run by --spread-from FOLDER',
    ];
  }
  const texts = Object.entries(spreads).map(
    ([task, { seeds, rows }]) =>
      `${task} ${formatSmall(seeds)}${rows ? ` and, by the ${rows.count} rows, ${formatSmall(rows.standardError)} of the mean` : ''}`,
  );
  const hasRows = Object.values(spreads).some(({ rows }) => rows !== null);
  return [
    `spread of a paired difference over seeds: ${texts.join('; ')}${hasRows ? '' : '. What other rows would give is not known, and widens margins'}`,
  ];
}

function describeBudget(planned: PlannedBudget, plan: Plan): string[] {
  const { budget, arms, pairs, seeds, tasks, overTasks, onTask } = planned;
  const head = `${budget}: ${count(arms, 'arm')}, ${count(pairs, 'pair')}, ${count(seeds, 'seed')}`;
  if (pairs === 0) return [`${head}: nothing to compare`];
  return [
    head,
    ...(overTasks ? [`  over the ${tasks} tasks: ${describeReach(overTasks, pairs, plan)}`] : []),
    `  on a single task: ${describeReach(onTask, pairs, plan)}`,
  ];
}

function describeReach(reach: Reach, pairs: number, { spreads, margin: stated }: Plan): string {
  const { margin } = reach;
  const found = describeDifference(reach, pairs, spreads !== null);
  if (spreads === null || margin === null) return found;
  const small = stated !== null && stated < margin ? `, and the study states ${formatSmall(stated)}` : '';
  return `${found}; equal arms are called equivalent within ${formatSmall(margin)} ${WITH_POWER}${small}`;
}

function describeDifference(
  { leastP, leastPHolm, seedsNeeded, difference }: Reach,
  pairs: number,
  isKnown: boolean,
): string {
  if (difference === null) {
    return `no difference can pass Holm's correction: the smallest p, ${formatSmall(leastP)}, times ${count(pairs, 'pair')} is ${formatSmall(leastP * pairs)}; it takes ${count(seedsNeeded, 'seed')}`;
  }
  if (isKnown) return `a true difference of ${formatSmall(difference)} is found ${WITH_POWER}`;
  return `differences can pass Holm's correction: the smallest p, times ${count(pairs, 'pair')}, is ${formatSmall(leastPHolm)}`;
}

const WITH_POWER = `with ${100 * POWER} % probability`;

function count(amount: number, noun: string): string {
  return `${amount} ${noun}${amount === 1 ? '' : 's'}`;
}

/** Writes a plan where it is asked for: a line of JSON on stdout, or words on stderr. */
export function sayPlan(plan: Plan, asJson: boolean): void {
  if (asJson) process.stdout.write(`${JSON.stringify(plan)}\n`);
  else process.stderr.write(`${commandName}: nothing is run or written; this is the plan\n${describePlan(plan)}\n`);
}
