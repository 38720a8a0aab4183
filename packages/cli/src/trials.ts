/* Planning the trials of a study and running them, here or in worker processes. */
export type { EnginePlan } from './registry/executors.js';
export { isOnDevice } from './registry/executors.js';
export { dataSourceSchema, loadTask, type DataSource, type LoadedTask } from './registry/tasks.js';
export { measureTask, MEASURED_STEPS } from './run/measure.js';
export { planRun, type PlannedRun } from './run/plan-run.js';
export { trialPreparer } from './run/prepare.js';
export {
  ask,
  askWorker,
  endWorker,
  ensureAlive,
  inProcessRunner,
  localRunner,
  startWorker,
  type Worker,
} from './run/processes.js';
export { withProgress, type Progress } from './run/progress.js';
export { throttled, trialProgressSchema, type TrialProgress } from './run/recorder.js';
export {
  failureOf,
  WORKER_DIED,
  type MeasuredTask,
  type TrialEvents,
  type TrialRunner,
  type WorkerFailure,
  type WorkerOutcome,
} from './run/runner.js';
export { describeCircumstances } from './run/trial.js';
export {
  budgetsOf,
  composeStudy,
  gridOf,
  MAX_SEEDS,
  type ArmSettings,
  type ComposedStudy,
  type Study,
  type StudyInput,
} from './study/study.js';
export {
  assertSharable,
  parseShard,
  planTrials,
  referenceOf,
  shardOf,
  trialOf,
  type Shard,
  type Trial,
  type TrialContext,
  type TrialProtocol,
  type TriedRate,
  type TunedArm,
} from './study/trials.js';
