export { trainingProgress, type TrainingProgress, type TrainingProgressOptions } from './run/training-progress.js';
