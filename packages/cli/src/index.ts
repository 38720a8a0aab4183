/* What a package that adds commands to the program needs besides the trials and their results. */
export {
  amount,
  count,
  listPresets,
  MOST_USED,
  studyFromFlags,
  withExample,
  withStudyFlags,
  type StudyFlags,
} from './commands/flags.js';
export {
  assertInputs,
  CHECKPOINT_EVERY,
  checkOut,
  FORCE,
  inClaimedFolder,
  type CheckpointFlags,
  type OutFlags,
} from './commands/folders.js';
export { commandName } from './registry/command-name.js';
export { INTERRUPTED, untilSignal } from './run/processes.js';
