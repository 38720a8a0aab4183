import { noCheckpoints, trialCheckpoints } from '../trial/checkpoints.js';
import type { PreparedTrial } from '../trial/prepare.js';
import type { TrialProgress } from '../trial/progress.js';
import { runTrial } from '../trial/run-trial.js';
import type { DoneTrial } from '../results/schema.js';
import type { TrialRequest } from './messages.js';

/** Runs a trial whose data are ready, in this process, with the checkpoints that the request asks for. */
export async function performTrial(
  { trial, checkpoints: folder, checkpointEvery }: TrialRequest,
  prepared: PreparedTrial,
  onProgress: (progress: TrialProgress) => void,
  signal?: AbortSignal,
): Promise<DoneTrial> {
  const every = checkpointEvery === undefined ? {} : { every: checkpointEvery };
  const checkpoints = folder === null ? noCheckpoints : trialCheckpoints(trial.id, { folder, ...every });
  const { result } = await runTrial(trial, prepared, { onProgress, checkpoints, ...(signal && { signal }) });
  return result;
}
