import type { Trial } from '../plan/trial.js';
import { trialPreparer } from '../trial/prepare.js';
import { failureOf, type TrialRequest } from './messages.js';
import { performTrial } from './perform.js';
import type { TrialEvents, TrialRunner } from './runner.js';

/** Runs trials one after the other in this process, for a debugger and for tests. A crash ends the run with them. */
export function inProcessRunner(keeping: Omit<TrialRequest, 'trial'>): TrialRunner {
  const prepare = trialPreparer();
  const runOne = async (trial: Trial, events: TrialEvents, signal: AbortSignal): Promise<void> => {
    events.onStart(trial);
    const onProgress = events.onProgress.bind(events, trial);
    const outcome = await prepare(trial)
      .then((prepared) => performTrial({ trial, ...keeping }, prepared, onProgress, signal))
      .catch(failureOf);
    if (signal.aborted) return;
    if ('status' in outcome) await events.onDone(trial, outcome);
    else await events.onFailed(trial, outcome);
  };
  return {
    async run(trials, events, signal) {
      for (const trial of trials) if (!signal.aborted) await runOne(trial, events, signal);
    },
    close: () => Promise.resolve(),
  };
}
