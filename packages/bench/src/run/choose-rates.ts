import { mean } from 'simple-statistics';
import { pairedStandardError } from '../report/statistics/resampling.js';
import { primaryMetric, type DoneTrial, type TrialResult } from '@peftjs/cli/results';
import { WORKER_DIED, type TriedRate, type TunedArm } from '@peftjs/cli/trials';
import { orientedScore, type Candidates } from '../study/tuning.js';

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
  const oriented = (rate: Pick<TriedRate, 'score'>): number => orientedScore(rate, direction);
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
