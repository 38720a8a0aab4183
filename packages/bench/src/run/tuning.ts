import { mean } from 'simple-statistics';
import { ConfigError } from '@peftjs/core/method';
import { primaryMetric, type DoneTrial, type TrialResult } from '@peftjs/cli/results';
import {
  budgetsOf,
  gridOf,
  MAX_SEEDS,
  trialOf,
  WORKER_DIED,
  type ArmSettings,
  type Study,
  type Trial,
  type TrialContext,
  type TriedRate,
  type TunedArm,
} from '@peftjs/cli/trials';
import { pairedStandardError } from '../report/statistics/resampling.js';

/** The learning rates to try for one arm. */
export interface Candidates extends Pick<
  TunedArm,
  'arm' | 'tasks' | 'forAllTasks' | 'budget' | 'forAllBudgets' | 'seeds'
> {
  /** The rates, from the smallest, each with its trials. */
  readonly rates: readonly { readonly learningRate: number; readonly trials: readonly Trial[] }[];
}

/**
 * Plans what a study tries before it compares: a grid of the same size for every arm, at one budget or each, scored on
 * the selection rows. The head's learning rate is the protocol's for all methods, so arms that train only the head are
 * not tuned.
 */
export function planTuning(context: TrialContext): Candidates[] {
  const { tuning, tasks, methods } = context.study;
  if (!tuning) return [];
  const seeds = Array.from({ length: tuning.seeds }, (_, index) => MAX_SEEDS + 1 + index);
  const arms = Object.entries(methods).filter(([, arm]) => arm.tuning !== false && !context.headOnly.has(arm.method));
  const groups = tuning.tasks === null ? tasks.map((task) => [task]) : [tuning.tasks];
  return groups.flatMap((on) =>
    arms.flatMap(([arm, settings]) =>
      tunedBudgets(context, settings).map((budget): Candidates => {
        const held = { forAllTasks: tuning.tasks !== null, forAllBudgets: tuning.budget !== 'each' };
        const row = { arm, tasks: on, budget, seeds, ...held };
        return { ...row, rates: gridOf(settings, tuning).map((rate) => tryouts(context, settings, row, rate)) };
      }),
    ),
  );
}

/** The budgets that an arm is tuned at; null for a method without one. */
function tunedBudgets({ budgeted, study }: TrialContext, settings: ArmSettings): (string | null)[] {
  const budgets = budgeted.has(settings.method) ? budgetsOf(settings, study) : [];
  const [first = null] = budgets;
  if (first === null) return [null];
  const own = study.tuning?.budget ?? first;
  return own === 'each' ? [...budgets] : [own];
}

/** @throws ConfigError if a study tunes: `--learning-rate` would set the head's rate only. */
export function assertUntuned({ tuning }: Study): void {
  if (!tuning) return;
  throw new ConfigError(
    '--learning-rate: this study tunes the learning rate of every arm; leave it out, or set "tuning" to null in a study file (--config)',
    'learning-rate',
  );
}

/** The trials of one rate, for every task and seed. */
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

/** All trials of the candidates. */
export function trialsOf(candidates: readonly Candidates[]): Trial[] {
  return candidates.flatMap(({ rates }) => rates.flatMap(({ trials }) => trials));
}

/** The number of tuning trials: as planned, and at most, if grids are widened. */
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

/** Whether a grid has at least two rates, whose ratio a new one can continue. */
function canWiden({ rates }: Pick<Candidates, 'rates'>): boolean {
  return rates.length > 1;
}

/**
 * Adds one rate to every arm if some arm's best rate is the smallest or the largest of its grid; undefined if none is.
 * Arms tuned on different tasks are widened separately. The new rate continues the ratio of the last two rates beyond
 * the edge nearest to the arm's best rate; from the exact middle, beyond the edge on the side of the better neighbour.
 * An arm whose rates all failed gets a smaller one.
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

/** Whether the best rate is known to be the first or last one, and no inner rate is as good; also if all failed. */
function isAtEdge(arm: TunedArm): boolean {
  const { tried } = arm;
  const scores = tried.map((rate) => orientedRate(rate, arm));
  const best = Math.max(...scores);
  if (best === -Infinity) return true;
  return arm.chosen !== null && !scores.slice(1, -1).includes(best);
}

function nextRate(arm: TunedArm): number {
  const rates = arm.tried.map(({ learningRate }) => learningRate);
  const scores = arm.tried.map((rate) => orientedRate(rate, arm));
  const best = scores.indexOf(Math.max(...scores));
  const [below, above] = [best, rates.length - 1 - best];
  const isUp = above < below || (above === below && (scores[best + 1] ?? -Infinity) > (scores[best - 1] ?? -Infinity));
  const [edge, inner] = (isUp ? rates.slice(-2).reverse() : rates.slice(0, 2)) as [number, number];
  return Number(((edge * edge) / inner).toPrecision(12)); // removes rounding noise, as of 3 * 0.1
}

/** The score of a rate, negated if lower is better; -Infinity if the rate failed. */
function orientedRate({ score }: Pick<TriedRate, 'score'>, { lowerIsBetter }: Pick<TunedArm, 'lowerIsBetter'>): number {
  if (score === null) return -Infinity;
  return lowerIsBetter ? -score : score;
}

/**
 * Chooses a learning rate for every arm from the results of its candidates. The best rate has the best mean score; of
 * the rates within one paired standard error of it, the middle one is chosen. A rate with a failed trial ranks last; if
 * the process of a trial died, which says nothing about its rate, none is chosen, and a rerun tries that trial again.
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
    const chosen = chosenOf(outcomes, { lowerIsBetter });
    const isJudged = !outcomes.some(({ results: ofRate }) => ofRate.some(hasDied));
    return { ...arm, metric, lowerIsBetter, ...chosen, ...(!isJudged && { tied: [], chosen: null }) };
  });
}

/** A rate and the results of its trials. */
interface Outcome {
  readonly learningRate: number;
  readonly results: readonly TrialResult[];
}

function chosenOf(
  outcomes: readonly Outcome[],
  direction: Pick<TunedArm, 'lowerIsBetter'>,
): Pick<TunedArm, 'tried' | 'tied' | 'chosen'> {
  const scored = outcomes.map((outcome) => ({ outcome, rate: triedRate(outcome) }));
  const oriented = (rate: Pick<TriedRate, 'score'>): number => orientedRate(rate, direction);
  const best = scored.reduce((winner, each) => (oriented(each.rate) > oriented(winner.rate) ? each : winner));
  const tried = scored.map(({ outcome, rate }) => ({
    ...rate,
    standardError: rate.score === null || outcome === best.outcome ? null : standardError(outcome, best.outcome),
  }));
  const isTied = (rate: TriedRate): boolean => oriented(best.rate) - oriented(rate) <= (rate.standardError ?? 0);
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

/**
 * The standard error of the paired difference between two rates, averaged over tasks; null if it cannot be estimated.
 */
function standardError(a: Outcome, b: Outcome): number | null {
  const tasks = [...new Set(a.results.map(({ task }) => task))];
  const ofTask = ({ results }: Outcome, task: string): DoneTrial[] =>
    results.filter(isDone).filter((result) => result.task === task);
  const errors = tasks.map((task) => pairedStandardError(ofTask(a, task), ofTask(b, task)));
  const whole = Math.sqrt(errors.reduce((sum, error) => sum + error ** 2, 0)) / tasks.length;
  return Number.isFinite(whole) ? whole : null;
}

function hasDied(result: TrialResult): boolean {
  return result.status === 'failed' && result.error.code === WORKER_DIED;
}

function isDone(result: TrialResult): result is DoneTrial {
  return result.status === 'done';
}
