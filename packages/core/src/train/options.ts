import type { Executor } from '../contracts/executor.js';
import type { EvaluationData } from '../contracts/model.js';
import type { Loss, LossFunction } from '../losses/loss.js';
import type { Optimizer } from '../optimizers/optimizer.js';
import type { EvaluationProgress } from './evaluate.js';
import type { Schedule, ScheduleName } from './schedules.js';
import type { Sizing, SizingStage } from './size-stages.js';
import type { Checkpoint, TrainingSnapshot } from './snapshot.js';

/** Options of `train`. */
export interface TrainOptions {
  /** Runs the training steps, e.g. `compiled()`. */
  readonly executor: Executor;
  /** The number of passes over the training data. */
  readonly epochs: number;
  /**
   * The number of batches per step. Their gradients are accumulated with each row or token weighted equally, as in one
   * large batch, except that each batch has its own dropout, `multipleNegativesRanking` takes its negatives from one
   * batch, and `orpo` averages the tokens of the chosen texts within one. The last step of an epoch gets the batches
   * that are left. Default 1.
   */
  readonly gradientAccumulationSteps?: number;
  /**
   * The peak learning rate of every group that `learningRates` does not name. Default: the method's
   * (`defaultLearningRate`), and 2e-3 for the head.
   */
  readonly learningRate?: number;
  /** Peak learning rates by optimizer group: `default`, `head`, and those of the method, e.g. SoRA's `gate`. */
  readonly learningRates?: Readonly<Record<string, number>>;
  /**
   * The loss to minimise: one of this package's losses, or a function of the outputs and the batch's labels, weights
   * and inputs that returns a scalar. Default: the loss for the kind of the data.
   */
  readonly loss?: Loss | LossFunction;
  /** The optimizer. Default `adamW()`. */
  readonly optimizer?: Optimizer;
  /** The learning-rate schedule after warmup: a name, or a schedule of your own. Default 'linear'. */
  readonly schedule?: ScheduleName | Schedule;
  /** The share of the steps during which the learning rate rises. Default 0.06. */
  readonly warmupRatio?: number;
  /** The share of the steps, at the end, in which budgets hold and checkpoints are selected. Default 0.3. */
  readonly finalRatio?: number;
  /**
   * The frozen network's own dropout: `'config'` for the rates of its configuration, as fine-tuning in transformers
   * uses them, or one rate in [0, 1) for all its places. Default 0: none.
   */
  readonly dropout?: 'config' | number;
  /**
   * Whether the backward pass computes the layers again instead of keeping what they computed: less memory, and longer
   * steps. Results are the same to the bit, and a run may be resumed with another setting. No effect with `eager()`.
   * Default: on, with a warning, where a step of the first epoch would otherwise keep more than half of the free
   * memory.
   */
  readonly gradientCheckpointing?: boolean;
  /** The largest global norm of the gradients; null for no clipping. Default 1. */
  readonly clipNorm?: number | null;
  /** Optimizer groups that are not clipped and do not count in the norm. Default: none. */
  readonly unclippedGroups?: readonly string[];
  /**
   * The data that checkpoints are evaluated on, and how many of the final steps are candidates. Default: the last
   * checkpoint is kept.
   */
  readonly selection?: Selection;
  /**
   * How often to evaluate on the selection data in addition, reported to `onEvaluation`. It changes neither the
   * training nor the selection. Default: no more often than `selection` does; after every epoch with `earlyStopping`.
   */
  readonly evaluateEvery?: Interval;
  /** Ends the run when a metric of the selection data stops improving. Default: no early stopping. */
  readonly earlyStopping?: EarlyStopping;
  /** Called after every step and awaited before the next one. */
  readonly onStep?: (event: StepEvent) => unknown;
  /** Called after every evaluation and awaited. */
  readonly onEvaluation?: (event: EvaluationEvent) => unknown;
  /** Called after every batch of an evaluation. */
  readonly onEvaluating?: ((progress: EvaluationProgress) => void) | undefined;
  /**
   * Called after every stage of a run that chooses its adapter's size, and awaited. `peft` then holds the stage's
   * result.
   */
  readonly onStage?: (stage: SizingStage) => unknown;
  /**
   * Called with a snapshot when `saveEvery` is due and when `signal` aborts, and awaited. Pass the snapshot as `resume`
   * to continue.
   */
  readonly onSnapshot?: (snapshot: TrainingSnapshot) => unknown;
  /**
   * How often `onSnapshot` is called, or whether it is called after a given step. Never after the last step. Default:
   * only on abort.
   */
  readonly saveEvery?: Interval | ((step: number) => boolean);
  /**
   * Continues from a snapshot; the result is the same, bit for bit, as without the interruption. Model and options must
   * be those of the original run. Null starts a new run, like leaving it out.
   */
  readonly resume?: TrainingSnapshot | null;
  /**
   * Stops the run between two steps: `onSnapshot` gets the current state, and `train` rejects with the signal's reason.
   */
  readonly signal?: AbortSignal;
}

/** An interval: a number of steps, or of epochs. */
export type Interval = number | { readonly epochs: number };

/**
 * When to end a run early. Evaluations count from the first one at which the adapter is within its budget: from the
 * start for a method without a budget. A run that is stopped ends with the best checkpoint of those evaluations; any
 * other run ends as without early stopping.
 */
export interface EarlyStopping {
  /**
   * The number of consecutive evaluations of `evaluateEvery` without improvement after which the run ends; at least 1.
   */
  readonly patience: number;
  /** The metric that must improve, by its name in the scores of the selection data. Default: their `primaryMetric`. */
  readonly metric?: string;
  /**
   * Whether a lower `metric` is better. Default: the selection data's setting for their `primaryMetric`; false for
   * another metric.
   */
  readonly lowerIsBetter?: boolean;
  /** An improvement counts only if it is larger than this. Default 0. */
  readonly minDelta?: number;
}

/** The data to select a checkpoint on, and how often to evaluate within the final steps. */
export interface Selection {
  /** The rows to evaluate on. */
  readonly data: EvaluationData;
  /** The number of evaluations, spread over the final steps and including the last step. Default 3. */
  readonly evaluations?: number;
  /**
   * For a run that chooses its adapter's size: how much worse than the dense adapter's score the score may be. Default
   * null: one standard error of the difference, over the rows of `data`.
   */
  readonly margin?: number | null;
  /**
   * For a run that chooses its adapter's size: a fixed part of the training rows, to measure memorization on. Default:
   * not measured.
   */
  readonly trainSubset?: EvaluationData;
}

/** What `onStep` receives. */
export interface StepEvent {
  /** The step, from 1. */
  readonly step: number;
  /** The number of steps of the whole run. */
  readonly totalSteps: number;
  /** The epoch, from 0. */
  readonly epoch: number;
  /** The number of epochs of the whole run. */
  readonly epochs: number;
  /** The mean loss on the step's data alone, comparable between methods. */
  readonly loss: number;
  /** The minimised value: `loss` plus the terms that the method adds, such as AdaLoRA's orthogonality. */
  readonly objective: number;
  /** The learning rate of the default group; the first group's where the adapter has no default group. */
  readonly learningRate: number;
  /** The stage, from 0, of a run that chooses its adapter's size. */
  readonly sizingStage?: number;
  /** The adapter's stored parameters, as last counted. */
  readonly storedParameters: number;
  /** Ranks alive by module path, at the steps where they are counted; only for methods whose ranks change. */
  readonly ranks?: Readonly<Record<string, number>>;
  /**
   * Wall time of the step, its compilation excluded. Training the head alone computes features in the first steps.
   */
  readonly milliseconds: number;
  /** The controller's scalars at this step, by name. */
  readonly scalars: Readonly<Record<string, number>>;
}

/** What `onEvaluation` receives. */
export interface EvaluationEvent extends Pick<Checkpoint, 'step' | 'metrics' | 'storedParameters' | 'ranks'> {
  /** The name of the metric that selects checkpoints. */
  readonly primaryMetric: string;
  /** Whether this checkpoint is a candidate of `selection` and the best so far. */
  readonly best: boolean;
}

/** The result of a training run. The model's adapter holds the selected checkpoint. */
export interface TrainResult {
  /** The planned number of steps; `last.step` were actually run. */
  readonly totalSteps: number;
  /** Whether early stopping ended the run. */
  readonly stoppedEarly: boolean;
  /** The best checkpoint on the selection data among those within the budget; without such data the last one. */
  readonly selected: Checkpoint;
  /** The checkpoint after the last step. */
  readonly last: Checkpoint;
  /** The adapter's stored parameters, averaged over the steps. */
  readonly meanParameters: number;
  /** Milliseconds spent compiling. */
  readonly compileMs: number;
  /**
   * How the run chose its adapter's size, for an adapter that leaves it to training. `totalSteps` is then the largest
   * possible number.
   */
  readonly sizing?: Sizing;
}
