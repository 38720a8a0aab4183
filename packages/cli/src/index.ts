/* What a package that adds commands to the program needs beside the trials and their results. */
export { amount, count, studyFromFlags, withStudyFlags, type StudyFlags } from './commands/flags.js';
export { assertInputs } from './commands/inputs.js';
export {
  CHECKPOINT_EVERY,
  checkOut,
  FORCE,
  inClaimedFolder,
  type CheckpointFlags,
  type OutFlags,
} from './commands/out-folder.js';
export { INTERRUPTED, untilSignal } from './commands/signals.js';
export { commandName } from './registry/command-name.js';
