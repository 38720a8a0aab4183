/* Planning the trials of a study and running them, here or in worker processes. */
export { isOnDevice, type EnginePlan } from './registry/executors.js';
export { dataSourceSchema, loadTask, type DataSource, type LoadedTask } from './registry/tasks.js';
export { measureTask, MEASURED_STEPS } from './run/measure.js';
export { planRun, type PlannedRun } from './run/plan-run.js';
export { trialPreparer } from './run/prepare.js';
export * from './run/processes.js';
export { withProgress, type Progress } from './run/progress.js';
export { throttled, trialProgressSchema, type TrialProgress } from './run/recorder.js';
export * from './run/runner.js';
export { describeCircumstances } from './run/trial.js';
export { budgetsOf, composeStudy, gridOf, MAX_SEEDS } from './study/study.js';
export type { ArmSettings, ComposedStudy, Study, StudyInput } from './study/study.js';
export * from './study/trials.js';
