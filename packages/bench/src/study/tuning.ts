import { mean } from 'simple-statistics';
import { primaryMetric, type DoneTrial, type TrialResult } from '../results/schema.js';
import { budgetsOf, gridOf, MAX_SEEDS, type ArmSettings } from './study.js';
import { trialOf, type Trial, type TrialContext, type TriedRate, type TunedArm } from './trials.js';

/** The learning rates that are tried for one arm on one task. */
export interface Candidates extends Pick<TunedArm, 'arm' | 'task' | 'forAllTasks' | 'budget' | 'seeds'> {
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
  return (tuning.task === null ? tasks : [tuning.task]).flatMap((task) =>
    arms.map(([arm, settings]): Candidates => {
      const [first = null] = context.budgeted.has(settings.method) ? budgetsOf(settings, context.study) : [];
      const budget = first === null ? null : (tuning.budget ?? first);
      const trialsAt = (learningRate: number): Trial[] =>
        seeds.map((seed) => tryout(context, { arm, settings: { ...settings, learningRate }, task, budget, seed }));
      const rates = gridOf(settings, tuning).map((learningRate) => ({ learningRate, trials: trialsAt(learningRate) }));
      return { arm, task, forAllTasks: tuning.task !== null, budget, seeds, rates };
    }),
  );
}

function tryout(
  context: TrialContext,
  choice: Pick<Trial, 'arm' | 'task' | 'budget' | 'seed'> & { settings: ArmSettings },
): Trial {
  return trialOf(context, { ...choice, judgedOn: 'selection' });
}

/** The best learning rate of every arm by the results of what was tried; a rate of which a trial failed is worse than any other. */
export function chooseRates(candidates: readonly Candidates[], results: readonly TrialResult[]): TunedArm[] {
  const byId = new Map(results.map((result) => [result.id, result] as const));
  return candidates.map(({ rates, ...arm }) => {
    const outcomes = rates.map(({ learningRate, trials }) => ({
      learningRate,
      results: trials.flatMap(({ id }) => byId.get(id) ?? []),
    }));
    const selection = outcomes.flatMap((outcome) => outcome.results.filter(isDone))[0]?.selection;
    const lowerIsBetter = selection?.lowerIsBetter ?? false;
    const tried = outcomes.map((outcome) => triedRate(outcome.learningRate, outcome.results));
    return { ...arm, metric: selection?.metric ?? null, lowerIsBetter, tried, chosen: best(tried, lowerIsBetter) };
  });
}

function triedRate(learningRate: number, results: readonly TrialResult[]): TriedRate {
  const failed = results.find((result) => result.status === 'failed');
  if (failed) return { learningRate, score: null, error: failed.error.message };
  return { learningRate, score: mean(results.filter(isDone).map(primaryMetric)) };
}

/** The rate with the best score; of equals the first, which is the smallest. */
function best(tried: readonly TriedRate[], lowerIsBetter: boolean): number | null {
  const sign = lowerIsBetter ? -1 : 1;
  const merit = ({ score }: TriedRate): number => (score === null ? -Infinity : sign * score);
  const [winner] = [...tried].sort((a, b) => merit(b) - merit(a) || a.learningRate - b.learningRate);
  return winner?.score == null ? null : winner.learningRate;
}

function isDone(result: TrialResult): result is DoneTrial {
  return result.status === 'done';
}
