// The progress line of the command, for programs.
export { trainingProgress, type TrainingProgress, type TrainingProgressOptions } from '@peftjs/cli/progress';
