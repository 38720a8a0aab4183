import { mean, sampleStandardDeviation } from 'simple-statistics';
import { primaryMetric, type DoneTrial, type TrialResult } from '../results/schema.js';
import { budgetsOf, gridOf, MAX_SEEDS, type ArmSettings } from './study.js';
import { trialOf, type Trial, type TrialContext, type TriedRate, type TunedArm } from './trials.js';

/** The learning rates that are tried for one arm. */
export interface Candidates extends Pick<TunedArm, 'arm' | 'tasks' | 'forAllTasks' | 'budget' | 'seeds'> {
  /** From the smallest rate. */
  readonly rates: readonly { readonly learningRate: number; readonly trials: readonly Trial[] }[];
}

/**
 * What a study tries before it compares: for every arm a grid of the same size, at one budget, judged on the selection rows. The
 * head's rate is the protocol's for all methods, so that what trains the head alone has nothing to tune.
 */
export function planTuning(context: TrialContext): Candidates[] {
  const { tuning, tasks, methods } = context.study;
  if (!tuning) return [];
  const seeds = Array.from({ length: tuning.seeds }, (_, index) => MAX_SEEDS + 1 + index);
  const arms = Object.entries(methods).filter(([, { method }]) => !context.headAlone.has(method));
  const groups = tuning.tasks === null ? tasks.map((task) => [task]) : [tuning.tasks];
  return groups.flatMap((on) =>
    arms.map(([arm, settings]): Candidates => {
      const [first = null] = context.budgeted.has(settings.method) ? budgetsOf(settings, context.study) : [];
      const budget = first === null ? null : (tuning.budget ?? first);
      const row = { arm, tasks: on, forAllTasks: tuning.tasks !== null, budget, seeds };
      return { ...row, rates: gridOf(settings, tuning).map((rate) => tryouts(context, settings, row, rate)) };
    }),
  );
}

/** The trials of one rate: every task and seed. */
function tryouts(
  context: TrialContext,
  settings: ArmSettings,
  { arm, tasks, budget, seeds }: Omit<Candidates, 'rates'>,
  learningRate: number,
): Candidates['rates'][number] {
  const trials = tasks.flatMap((task) =>
    seeds.map((seed) =>
      trialOf(context, {
        arm,
        settings: { ...settings, learningRate },
        task,
        budget,
        seed,
        judgedOn: 'selection',
      }),
    ),
  );
  return { learningRate, trials };
}

/** The trials that candidates stand for. */
export function trialsOf(candidates: readonly Candidates[]): Trial[] {
  return candidates.flatMap(({ rates }) => rates.flatMap(({ trials }) => trials));
}

/** How many trials a study's tuning takes: those that are planned, and the most that wider grids can make of them. */
export function countTuning(context: TrialContext): { readonly planned: number; readonly most: number } {
  const candidates = planTuning(context);
  const perRate = candidates.reduce((sum, { tasks, seeds }) => sum + tasks.length * seeds.length, 0);
  const planned = trialsOf(candidates).length;
  const extensions = Math.max(
    0,
    ...candidates.map((row) => (canWiden(row) ? (context.study.tuning?.extensions ?? 0) : 0)),
  );
  return { planned, most: planned + extensions * perRate };
}

/** A grid of one rate has no ratio to go on by. */
function canWiden({ rates }: Pick<Candidates, 'rates'>): boolean {
  return rates.length > 1;
}

/**
 * Candidates with one more rate for every arm, where the best rate of some arm is the smallest or the largest of its grid; undefined
 * where none is. Arms that share no task are decided on apart. The new rate lies beyond the edge at which the arm's best rate is, or
 * is nearer to; from the very middle, beyond the edge on the side of the better neighbour. It continues the ratio of the last two rates
 * there. An arm of which every rate failed gets a smaller one.
 */
export function widened(
  context: TrialContext,
  candidates: readonly Candidates[],
  tuned: readonly TunedArm[],
): Candidates[] | undefined {
  const isWide = (row: Candidates, index: number): boolean => canWiden(row) && isAtEdge(tuned[index] as TunedArm);
  const atEdge = new Set(candidates.filter(isWide).map(({ tasks }) => tasks.join()));
  if (atEdge.size === 0) return undefined;
  return candidates.map((row, index) => {
    const settings = context.study.methods[row.arm];
    if (!settings || !atEdge.has(row.tasks.join())) return row;
    const rate = nextRate(tuned[index] as TunedArm);
    return { ...row, rates: [...row.rates, tryouts(context, settings, row, rate)].sort(byRate) };
  });
}

function byRate(a: { readonly learningRate: number }, b: { readonly learningRate: number }): number {
  return a.learningRate - b.learningRate;
}

/** Whether the best rate is the first or the last one; where rates inside are as good, it is not. */
function isAtEdge(arm: TunedArm): boolean {
  const { tried } = arm;
  const merits = tried.map((rate) => meritOf(rate, arm));
  const best = Math.max(...merits);
  return !merits.slice(1, -1).includes(best) || best === -Infinity;
}

function nextRate(arm: TunedArm): number {
  const rates = arm.tried.map(({ learningRate }) => learningRate);
  const merits = arm.tried.map((rate) => meritOf(rate, arm));
  const best = merits.indexOf(Math.max(...merits));
  const [below, above] = [best, rates.length - 1 - best];
  const isUp = above < below || (above === below && (merits[best + 1] ?? -Infinity) > (merits[best - 1] ?? -Infinity));
  const [edge, inner] = (isUp ? rates.slice(-2).reverse() : rates.slice(0, 2)) as [number, number];
  return Number(((edge * edge) / inner).toPrecision(12)); // 2 * 0.0003 is no number that anyone would type
}

/**
 * A learning rate for every arm, by the results of what was tried. The best rate is that with the best mean score; among those within
 * one paired standard error of it the middle one is chosen. A rate of which a trial failed is worse than any other.
 */
export function chooseRates(candidates: readonly Candidates[], results: readonly TrialResult[]): TunedArm[] {
  const byId = new Map(results.map((result) => [result.id, result] as const));
  return candidates.map(({ rates, ...arm }) => {
    const outcomes = rates.map(({ learningRate, trials }) => ({
      learningRate,
      results: trials.flatMap(({ id }) => byId.get(id) ?? []),
    }));
    const selections = outcomes.flatMap((outcome) => outcome.results.filter(isDone)).map(({ selection }) => selection);
    const metrics = new Set(selections.map(({ metric }) => metric));
    const [metric = null] = metrics.size === 1 ? metrics : [];
    const lowerIsBetter = selections[0]?.lowerIsBetter ?? false;
    return { ...arm, metric, lowerIsBetter, ...chosenOf(outcomes, { lowerIsBetter }) };
  });
}

/** A rate and what became of its trials. */
interface Outcome {
  readonly learningRate: number;
  readonly results: readonly TrialResult[];
}

function chosenOf(
  outcomes: readonly Outcome[],
  direction: Pick<TunedArm, 'lowerIsBetter'>,
): Pick<TunedArm, 'tried' | 'tied' | 'chosen'> {
  const scored = outcomes.map((outcome) => ({ outcome, rate: triedRate(outcome) }));
  const merit = (rate: Pick<TriedRate, 'score'>): number => meritOf(rate, direction);
  const best = scored.reduce((winner, each) => (merit(each.rate) > merit(winner.rate) ? each : winner));
  const tried = scored.map(({ outcome, rate }) => ({
    ...rate,
    standardError: rate.score === null || outcome === best.outcome ? null : standardError(outcome, best.outcome),
  }));
  const isTied = (rate: TriedRate): boolean => merit(best.rate) - merit(rate) <= (rate.standardError ?? 0);
  const tied = tried.filter((rate) => rate.score !== null && isTied(rate)).map(({ learningRate }) => learningRate);
  return { tried, tied, chosen: tied[Math.floor((tied.length - 1) / 2)] ?? null };
}

function triedRate({ learningRate, results }: Outcome): Omit<TunedArm['tried'][number], 'standardError'> {
  const scores = results
    .filter(isDone)
    .map((result) => ({ task: result.task, seed: result.seed, score: primaryMetric(result) }));
  const failed = results.find((result) => result.status === 'failed');
  if (failed) return { learningRate, score: null, error: failed.error.message, scores };
  return { learningRate, score: mean(scores.map(({ score }) => score)), scores };
}

/** The standard error of the mean over tasks of the paired difference of two rates; null where it cannot be told. */
function standardError(a: Outcome, b: Outcome): number | null {
  const tasks = [...new Set(a.results.map(({ task }) => task))];
  const ofTask = ({ results }: Outcome, task: string): DoneTrial[] =>
    results.filter(isDone).filter((result) => result.task === task);
  const errors = tasks.map((task) => pairedStandardError(ofTask(a, task), ofTask(b, task)));
  const whole = Math.sqrt(errors.reduce((sum, error) => sum + error ** 2, 0)) / tasks.length;
  return Number.isFinite(whole) ? whole : null;
}

/** Of the mean paired difference over seeds; NaN of a single one. */
function pairedStandardError(a: readonly DoneTrial[], b: readonly DoneTrial[]): number {
  const differences = a.flatMap((one) => {
    const other = b.find(({ seed }) => seed === one.seed);
    return other ? [primaryMetric(one) - primaryMetric(other)] : [];
  });
  if (differences.length < 2) return NaN;
  return sampleStandardDeviation(differences) / Math.sqrt(differences.length);
}

/** More is better, whatever the metric; a rate that failed is worse than any other. */
function meritOf({ score }: Pick<TriedRate, 'score'>, { lowerIsBetter }: Pick<TunedArm, 'lowerIsBetter'>): number {
  if (score === null) return -Infinity;
  return lowerIsBetter ? -score : score;
}

function isDone(result: TrialResult): result is DoneTrial {
  return result.status === 'done';
}
