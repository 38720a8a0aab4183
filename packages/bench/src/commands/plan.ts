import { DataError } from '@peftjs/core/method';
import { commandName } from '@peftjs/cli';
import { counted, formatDuration, formatSmall } from '@peftjs/cli/format';
import { by, grouped } from '../report/statistics/comparisons.js';
import { POWER, reachOf, spreadsOf, type Reach, type Spread } from '../report/statistics/power.js';
import { keepNewestNumerics, readResults } from '@peftjs/cli/results';
import {
  ask,
  endWorker,
  MEASURED_STEPS,
  measureTask,
  planTrials,
  startWorker,
  trialPreparer,
  type MeasuredTask,
  type Study,
  type Trial,
  type TrialContext,
  type Worker,
} from '@peftjs/cli/trials';
import { countTuning, planTuning, trialsOf } from '../run/tuning.js';

/** The flags of a plan. */
export interface PlanFlags {
  /** Whether to plan instead of running. */
  readonly plan?: boolean;
  /** The standard deviation over seeds of a paired difference, in units of the metric. */
  readonly spread?: number;
  /** A results folder to estimate that spread from. */
  readonly spreadFrom?: string;
}

/** What a study costs and what it can show, estimated before it runs. */
export interface Plan {
  /** The number of trials of each kind. */
  readonly trials: {
    /** Trials that are reported. */
    readonly reported: number;
    /** Trials that tune learning rates: as planned, and at most, if grids are widened. */
    readonly tuning: number;
    readonly tuningAtMost: number;
  };
  /** The estimated run time in seconds: as planned, and at most, on a number of workers. */
  readonly seconds: { readonly planned: number; readonly most: number; readonly workers: number };
  /** Whether early stopping may end trials before that. */
  readonly stopsEarly: boolean;
  /** Whether some trials choose their size; the time leaves out their later stages, whose number is not known before. */
  readonly choosesSize: boolean;
  /** The measured steps, by task. */
  readonly measured: readonly MeasuredTask[];
  /** The equivalence margin that the study states; null if it states none. */
  readonly margin: number | null;
  /** The assumed spread of differences, by task; null if unknown. */
  readonly spreads: Readonly<Record<string, Spread>> | null;
  /** The comparisons, by budget. */
  readonly budgets: readonly PlannedBudget[];
}

/** The comparisons at one budget. */
interface PlannedBudget {
  /** The budget as typed; `none` if no arm has one. */
  readonly budget: string;
  /** The number of arms. */
  readonly arms: number;
  /** The number of pairs of arms. */
  readonly pairs: number;
  /** The number of seeds. */
  readonly seeds: number;
  /** The number of tasks. */
  readonly tasks: number;
  /** What all tasks together can show; null for a study with one task, and where there is nothing to compare. */
  readonly overTasks: Reach | null;
  /** What a single task can show; null where there is nothing to compare. */
  readonly onTask: Reach | null;
}

/** Where a plan takes the spread of differences from. */
type SpreadSource = Pick<PlanFlags, 'spread' | 'spreadFrom'> & { readonly out: string };

/**
 * Returns how much arms differ by chance, by task: as stated, or from earlier results. Null if unknown.
 * @throws DataError if the named folder does not show it.
 */
export async function knownSpreads(
  { spread, spreadFrom, out }: SpreadSource,
  tasks: readonly string[],
): Promise<Record<string, Spread> | null> {
  if (spread !== undefined) return Object.fromEntries(tasks.map((task) => [task, { seeds: spread, rows: null }]));
  const { results } = keepNewestNumerics(await readResults(spreadFrom ?? out));
  const found = spreadsOf(results);
  if (found.size > 0)
    return Object.fromEntries(tasks.map((task) => [task, found.get(task) ?? typical([...found.values()])]));
  if (spreadFrom === undefined) return null;
  throw new DataError(`${spreadFrom} gives no spread; it needs results of at least two arms and two seeds`, spreadFrom);
}

/** The root mean square of several tasks' spreads, for a task that an earlier run lacks. */
function typical(spreads: readonly Spread[]): Spread {
  const rows = spreads.flatMap((spread) => spread.rows ?? []);
  const standardError = rootMeanSquare(rows.map((each) => each.standardError));
  return {
    seeds: rootMeanSquare(spreads.map(({ seeds }) => seeds)),
    rows: rows.length === 0 ? null : { standardError, count: Math.min(...rows.map(({ count }) => count)) },
  };
}

function rootMeanSquare(values: readonly number[]): number {
  return Math.hypot(...values) / Math.sqrt(values.length);
}

/** Measures a few steps and estimates what the study costs and can show. Writes nothing. */
export async function planOf(
  plan: TrialContext,
  workers: number,
  source: SpreadSource,
  signal: AbortSignal,
): Promise<Plan> {
  const spreads = await knownSpreads(source, plan.study.tasks);
  const reported = planTrials(plan);
  const tuning = countTuning(plan);
  const measured = await measureTasks(typicalTrials(reported, plan), workers, signal);
  const atATime = Math.max(1, workers);
  const ofReported = secondsOf(reported, measured, atATime);
  const ofTuning = secondsOf(trialsOf(planTuning(plan)), measured, atATime);
  const widest = tuning.planned === 0 ? 0 : (ofTuning * tuning.most) / tuning.planned;
  return {
    trials: { reported: reported.length, tuning: tuning.planned, tuningAtMost: tuning.most },
    seconds: { planned: ofReported + ofTuning, most: ofReported + widest, workers: atATime },
    stopsEarly: plan.study.protocol.earlyStoppingPatience != null,
    choosesSize: reported.some(choosesSize),
    measured,
    margin: plan.study.margin,
    spreads,
    budgets: plannedBudgets(reported, spreads),
  };
}

/** Estimates how long trials take, `atATime` of them at a time: at least as long as the longest one. */
export function secondsOf(
  trials: readonly Pick<Trial, 'task'>[],
  measured: readonly Pick<MeasuredTask, 'task' | 'trialSeconds'>[],
  atATime: number,
): number {
  const seconds = trials.map(({ task }) => measured.find((of) => of.task === task)?.trialSeconds ?? 0);
  return Math.max(0, ...seconds, seconds.reduce((sum, each) => sum + each, 0) / atATime);
}

/**
 * Picks a typical trial for each task: of the reference arm, or of an arm with a budget. Trials in stages are taken if
 * there are no others; those of the head alone, whose steps are far shorter, if nothing else is trained.
 */
export function typicalTrials(
  trials: readonly Trial[],
  { headOnly, study: { reference } }: Pick<TrialContext, 'headOnly'> & { readonly study: Pick<Study, 'reference'> },
): Trial[] {
  const mostTypical = by<Trial>(
    ({ method }) => Number(headOnly.has(method)),
    (trial) => Number(trial.settings.stages !== undefined || choosesSize(trial)),
    ({ arm }) => Number(arm !== reference),
    ({ budget }) => Number(budget === null),
  );
  return grouped(trials, ({ task }) => task).map((ofTask) => ofTask.sort(mostTypical)[0]);
}

function choosesSize({ budget }: Pick<Trial, 'budget'>): boolean {
  return budget !== null && budget.startsWith('auto');
}

/**
 * Trains each trial for a few steps on its batch of median length, in as many processes at a time as the study will
 * use, since they share the processor's cores, caches and memory; without workers, in this process.
 * @throws PeftError with the code and message of a process that fails.
 */
async function measureTasks(trials: readonly Trial[], workers: number, signal: AbortSignal): Promise<MeasuredTask[]> {
  const prepare = trialPreparer();
  const pool = Array.from({ length: workers }, () => startWorker());
  const stop = (): void => pool.forEach(({ process: child }) => child.kill('SIGKILL'));
  signal.addEventListener('abort', stop);
  try {
    const measured: MeasuredTask[] = [];
    for (const trial of trials) {
      measured.push(workers === 0 ? await measureTask(trial, await prepare(trial)) : await measureIn(pool, trial));
    }
    return measured;
  } finally {
    signal.removeEventListener('abort', stop);
    pool.forEach(endWorker);
  }
}

/** Measures the same trial in all processes at the same time. @returns the measurement with the median step. */
async function measureIn(pool: readonly Worker[], trial: Trial): Promise<MeasuredTask> {
  await Promise.all(pool.map((worker) => ask(worker, 'prepare', trial)));
  const measured = await Promise.all(pool.map((worker) => ask(worker, 'measure', trial)));
  measured.sort((a, b) => a.stepMedianMs - b.stepMedianMs);
  return measured[measured.length >> 1] as MeasuredTask;
}

/** The comparisons at each budget, which include the arms that have no budget. */
export function plannedBudgets(
  trials: readonly Trial[],
  spreads: Readonly<Record<string, Spread>> | null,
): PlannedBudget[] {
  const hasNone = (trial: Trial): boolean => trial.budget === null || choosesSize(trial);
  const open = new Set(trials.filter(hasNone).map(({ arm, budget }) => `${arm} ${budget}`)).size;
  const budgets = new Set(trials.filter((trial) => !hasNone(trial)).map(({ budget }) => budget as string));
  const tasks = [...new Set(trials.map(({ task }) => task))];
  const seeds = new Set(trials.map(({ seed }) => seed)).size;
  const byTask = tasks.map((task): Spread => spreads?.[task] ?? { seeds: 0, rows: null });
  const reaches = new Map<number, Pick<PlannedBudget, 'overTasks' | 'onTask'>>(); // seconds each, and often the same
  return (budgets.size === 0 ? ['none'] : [...budgets]).map((budget) => {
    const arms = open + new Set(trials.filter((trial) => trial.budget === budget).map(({ arm }) => arm)).size;
    const pairs = (arms * (arms - 1)) / 2;
    const reach = reaches.get(pairs) ?? {
      overTasks: pairs === 0 || tasks.length < 2 ? null : reachOf({ seeds, pairs, spreads: byTask }),
      onTask: pairs === 0 ? null : reachOf({ seeds, pairs, spreads: [typical(byTask)] }),
    };
    reaches.set(pairs, reach);
    return { budget, arms, pairs, seeds, tasks: tasks.length, ...reach };
  });
}

/** Describes a plan in words. */
export function describePlan(plan: Plan): string {
  const { trials, seconds, stopsEarly, measured, spreads, budgets } = plan;
  const later = plan.choosesSize ? '; not counted: the later stages of trials that choose their size' : '';
  const upTo =
    trials.tuningAtMost > trials.tuning
      ? `, up to ${trials.tuningAtMost} if a best rate lies at the edge of its grid`
      : '';
  const tuning = trials.tuning === 0 ? 'none tune' : `${trials.tuning} more tune`;
  const most = seconds.most > seconds.planned ? `, ${formatDuration(seconds.most)} with wider grids` : '';
  const [about, early] = stopsEarly ? ['at most about', '; trials that stop early end sooner'] : ['about', ''];
  return [
    `trials: ${trials.reported} reported; ${tuning} learning rates${upTo}`,
    `time: ${about} ${formatDuration(seconds.planned)}${most}, with ${counted(seconds.workers, 'worker')}${early}${later}`,
    ...measured.map(
      ({ task, arm, stepMedianMs, rows, tokens, trialSeconds }) =>
        `  ${task}: ${stepMedianMs.toFixed(0)} ms per step (median of ${MEASURED_STEPS} steps of ${arm}, ${rows} rows${tokens === null ? '' : ` of ${tokens} tokens`}); ${formatDuration(trialSeconds)} per trial, assumed for all arms`,
    ),
    describeSpreads(spreads),
    ...budgets.flatMap((budget) => describeBudget(budget, plan)),
  ].join('\n');
}

function describeSpreads(spreads: Plan['spreads']): string {
  if (spreads === null) {
    return 'what the study can show depends on how much two equal arms differ between seeds: give the standard deviation of that difference, e.g. --spread .01, or an earlier run, --spread-from FOLDER';
  }
  const texts = Object.entries(spreads).map(
    ([task, { seeds, rows }]) =>
      `${task} ${formatSmall(seeds)}${rows ? `, plus a standard error of ${formatSmall(rows.standardError)} from the ${rows.count} rows` : ''}`,
  );
  const hasRows = Object.values(spreads).some(({ rows }) => rows !== null);
  return `spread of a paired difference over seeds: ${texts.join('; ')}${hasRows ? '' : '. The variation over rows is unknown and would widen margins'}`;
}

function describeBudget({ budget, arms, pairs, seeds, tasks, overTasks, onTask }: PlannedBudget, plan: Plan): string[] {
  const head = `${budget}: ${counted(arms, 'arm')}, ${counted(pairs, 'pair')}, ${counted(seeds, 'seed')}`;
  if (!onTask) return [`${head}: nothing to compare`];
  return [
    head,
    ...(overTasks ? [`  over the ${tasks} tasks: ${describeReach(overTasks, pairs, plan)}`] : []),
    `  on a single task: ${describeReach(onTask, pairs, plan)}`,
  ];
}

function describeReach(
  { leastP, leastPHolm, seedsNeeded, difference, margin }: Reach,
  pairs: number,
  { spreads, margin: stated }: Plan,
): string {
  const times = `times ${counted(pairs, 'pair')}`;
  const found =
    difference === null
      ? `no difference can pass Holm's correction: the smallest p, ${formatSmall(leastP)}, ${times} is ${formatSmall(leastP * pairs)}; use at least ${counted(seedsNeeded, 'seed')}`
      : spreads === null
        ? `differences can pass Holm's correction: the smallest p, ${times}, is ${formatSmall(leastPHolm)}`
        : `a true difference of ${formatSmall(difference)} is detected ${WITH_POWER}`;
  if (spreads === null || margin === null) return found;
  const small = stated !== null && stated < margin ? `, but the study's margin is ${formatSmall(stated)}` : '';
  return `${found}; equal arms are found equivalent within ${formatSmall(margin)} ${WITH_POWER}${small}`;
}

const WITH_POWER = `with ${100 * POWER} % probability`;

/** Writes a plan: a line of JSON on stdout, or words on stderr. */
export function printPlan(plan: Plan, asJson: boolean): void {
  if (asJson) process.stdout.write(`${JSON.stringify(plan)}\n`);
  else process.stderr.write(`${commandName}: the plan (nothing is run or written)\n${describePlan(plan)}\n`);
}
