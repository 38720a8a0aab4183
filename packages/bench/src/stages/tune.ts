import { planTuning, chooseRates } from '../plan/tuning.js';
import type { TrialContext } from '../plan/trial.js';
import type { TunedArm } from '../plan/tuned-rate.js';
import { tuningFolder } from '../results/folder.js';
import { writeJson } from '../results/store.js';
import type { TrialRunner } from '../workers/runner.js';
import { runStage, type RunContext } from './run-stage.js';

/**
 * Chooses the learning rates of a study that tunes them. Trials are kept in OUT/tuning/results and taken up again from there, apart
 * from what is reported; OUT/tuning.json says what was tried.
 * @returns nothing where the study tunes nothing, or the run was stopped.
 */
export async function tune(plan: TrialContext, run: RunContext): Promise<TunedArm[]> {
  const candidates = planTuning(plan);
  const trials = candidates.flatMap(({ rates }) => rates.flatMap((rate) => rate.trials));
  if (trials.length === 0) return [];
  process.stderr.write(`peft-bench: tuning the learning rate on the selection rows: ${trials.length} trials\n`);
  const results = await runStage(tuningFolder(run.out), trials, run);
  if (run.signal.aborted) return [];
  const tuned = chooseRates(candidates, results);
  await writeJson(`${run.out}/tuning.json`, { arms: tuned });
  return tuned;
}

/** A runner that gives up, without a try, trials of which every learning rate has failed. */
export function withoutHopeless(runner: TrialRunner): TrialRunner {
  return {
    async run(trials, events, signal) {
      for (const trial of trials.filter(({ tuning }) => tuning?.chosen === null)) {
        const tried = trial.tuning?.tried ?? [];
        const rates = tried.map(({ learningRate }) => learningRate).join(', ');
        const message = `no learning rate of ${rates} could be trained: ${tried[0]?.error ?? 'every one failed'}`;
        events.onStart(trial);
        await events.onFailed(trial, { code: 'PEFT_TRAINING', message });
      }
      await runner.run(
        trials.filter(({ tuning }) => tuning?.chosen !== null),
        events,
        signal,
      );
    },
    close: () => runner.close(),
  };
}
