import type { Executor } from '../contracts/executor.js';
import type { EvaluationData } from '../contracts/model.js';
import type { Loss, LossFunction } from '../losses/loss.js';
import type { Optimizer } from '../optimizers/optimizer.js';
import type { Schedule, ScheduleName } from './schedules.js';
import type { SizingStage } from './sizing-reason.js';
import type { TrainingSnapshot } from './snapshot.js';

/** How `train` trains. */
export interface TrainOptions {
  readonly executor: Executor;
  readonly epochs: number;
  /**
   * Batches to a step: their gradients are added up, each row or token counting alike, as if they were one batch (with dropout of
   * its own for each). The last step of an epoch takes those that are left. Default 1.
   */
  readonly gradientAccumulationSteps?: number;
  /** Peak learning rate of every group that `learningRates` does not name. */
  readonly learningRate: number;
  /** Peak learning rates by optimizer group, e.g. `{ gate: 1e-2, head: 1e-3 }`. */
  readonly learningRates?: Readonly<Record<string, number>>;
  /**
   * What is minimised on the data: one of the losses here, or a function of the outputs and of the batch's labels, weights and inputs
   * that gives a scalar. Default: the loss for the kind of the data.
   */
  readonly loss?: Loss | LossFunction;
  /** Default `adamW()`. */
  readonly optimizer?: Optimizer;
  /** How the learning rate falls after its warm-up: a name, or a value of one's own. Default 'linear'. */
  readonly schedule?: ScheduleName | Schedule;
  /** Share of the steps in which the learning rate rises. Default 0.06. */
  readonly warmupRatio?: number;
  /** Share of the steps, at the end, in which budgets hold and checkpoints are selected. Default 0.3. */
  readonly finalRatio?: number;
  /** Largest global norm of the gradients. Default 1; null for no clipping. */
  readonly clipNorm?: number | null;
  /** Groups left out of the clip norm. Default none. */
  readonly unclippedGroups?: readonly string[];
  /** What checkpoints are evaluated on, and how many of the final steps are candidates. Without it the last one is kept. */
  readonly selection?: Selection;
  /**
   * Evaluates on the selection data this often, too, and tells `onEvaluation`. Changes no number and no selection. Default: only as
   * `selection` says; with `earlyStopping` after every epoch.
   */
  readonly evaluateEvery?: Interval;
  /** Ends the run when a metric of the selection data stops improving. Default: all steps are taken. */
  readonly earlyStopping?: EarlyStopping;
  /** Called after every step, and awaited: the next step begins when its promise is fulfilled. */
  readonly onStep?: (event: StepEvent) => unknown;
  /** Called after every evaluation, and awaited. */
  readonly onEvaluation?: (event: EvaluationEvent) => unknown;
  /** Called after every stage of an adapter that leaves its size to training, and awaited; `peft` then holds what the stage ended with. */
  readonly onStage?: (stage: SizingStage) => unknown;
  /**
   * Called with a snapshot when `saveEvery` is due and when `signal` aborts, and awaited; give the snapshot back as `resume` to go on
   * from it.
   */
  readonly onSnapshot?: (snapshot: TrainingSnapshot) => unknown;
  /** How often `onSnapshot` is called, or whether it is after a step. Never after the last step. Default: only on abort. */
  readonly saveEvery?: Interval | ((step: number) => boolean);
  /**
   * Goes on from a snapshot to the end that the run would have had, bit for bit. The model and the options must be those of then;
   * null begins a new run, as leaving it out does.
   */
  readonly resume?: TrainingSnapshot | null;
  /** Stops between two steps: `onSnapshot` gets what was reached, and `train` rejects with the signal's reason. */
  readonly signal?: AbortSignal;
}

/** How often: a number of steps, or of epochs. */
export type Interval = number | { readonly epochs: number };

/**
 * When to end a run early. Evaluations count from the first at which the adapter holds its budget: at once for a method that keeps
 * none. A run that is stopped ends with the best checkpoint of those evaluations; one that is not ends as it would without.
 */
export interface EarlyStopping {
  /** Evaluations of `evaluateEvery` in a row without an improvement after which the run ends; at least 1. */
  readonly patience: number;
  /** The metric that has to improve, by its name in the scores of the selection data. Default: their `primaryMetric`. */
  readonly metric?: string;
  /** Whether less of `metric` is better. Default: as the data say of their `primaryMetric`; false for another metric. */
  readonly lowerIsBetter?: boolean;
  /** What a metric must improve by, and more, to count. Default 0. */
  readonly minDelta?: number;
}

const OPTIONS: Readonly<Record<keyof TrainOptions, true>> = {
  executor: true,
  epochs: true,
  gradientAccumulationSteps: true,
  learningRate: true,
  learningRates: true,
  loss: true,
  optimizer: true,
  schedule: true,
  warmupRatio: true,
  finalRatio: true,
  clipNorm: true,
  unclippedGroups: true,
  selection: true,
  evaluateEvery: true,
  earlyStopping: true,
  onStep: true,
  onEvaluation: true,
  onStage: true,
  onSnapshot: true,
  saveEvery: true,
  resume: true,
  signal: true,
};

/** The names of the options of `train`. */
export const trainOptionNames = Object.keys(OPTIONS);

/** Data to select a checkpoint on, and how often within the final steps. */
export interface Selection {
  readonly data: EvaluationData;
  /** Number of evaluations spread over the final steps, the last step included. Default 3. */
  readonly evaluations?: number;
  /**
   * For an adapter that leaves its size to training: how much worse than the dense one's its score may be. Default null: one standard error
   * of the difference, over the rows of `data`.
   */
  readonly margin?: number | null;
  /** Likewise: a fixed part of the training rows, on which memorization is measured. Default: it is not. */
  readonly trainSubset?: EvaluationData;
}

/** What `train` tells of a step. */
export interface StepEvent {
  readonly step: number;
  readonly totalSteps: number;
  /** From 0. */
  readonly epoch: number;
  /** Epochs of the whole run. */
  readonly epochs: number;
  /** The mean loss on the step's data alone: comparable between methods. */
  readonly loss: number;
  /** What is minimised: `loss` and the terms that the method adds, such as AdaLoRA's orthogonality. */
  readonly objective: number;
  readonly learningRate: number;
  /** Of an adapter that leaves its size to training: the stage, from 0. */
  readonly sizingStage?: number;
  /** Of the adapter, as last counted. */
  readonly storedParameters: number;
  /** Live ranks by module path, at the steps at which a method whose ranks change is counted. */
  readonly ranks?: Readonly<Record<string, number>>;
  /** Wall time of the step, compilation left out. */
  readonly milliseconds: number;
  /** The scalars that the controller fed. */
  readonly scalars: Readonly<Record<string, number>>;
}

/** What `train` tells of an evaluation on the selection data. */
export interface EvaluationEvent {
  readonly step: number;
  readonly metrics: Readonly<Record<string, number>>;
  /** The name of the one that selects. */
  readonly primaryMetric: string;
  readonly storedParameters: number;
  readonly ranks: Readonly<Record<string, number>>;
  /** Whether this checkpoint is a candidate of `selection`, and the best of them so far. */
  readonly best: boolean;
}
