import { assertKnownOptions, describe } from '../config.js';
import { ConfigError } from '../errors.js';
import type { Executor } from '../contracts/executor.js';
import type { TrainPlan } from '../contracts/method.js';
import type { EvaluationData, TrainingData } from '../contracts/model.js';
import { lossFor } from '../losses/losses.js';
import { assertReads, lossOf, type Loss, type LossFunction } from '../losses/loss.js';
import { adamW } from '../optimizers/adamw.js';
import type { Optimizer } from '../optimizers/optimizer.js';
import { assertNamed } from '../settings.js';
import { resolveSchedule, type ResolvedSchedule, type Schedule, type ScheduleName } from './schedules.js';
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
  /** What a checkpoint is selected on. Without it the last one is kept. */
  readonly selection?: Selection;
  readonly onStep?: (event: StepEvent) => void;
  readonly onEvaluation?: (event: EvaluationEvent) => void;
  /** Called with a snapshot at the steps of `snapshotEvery`; give one back as `resume` to go on from it. */
  readonly onSnapshot?: (snapshot: TrainingSnapshot) => void | Promise<void>;
  /** Steps between two snapshots, or whether one is due after a step. There is none after the last step. */
  readonly snapshotEvery?: number | ((step: number) => boolean);
  readonly resume?: TrainingSnapshot;
  /** Stops between two steps. */
  readonly signal?: AbortSignal;
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
  onStep: true,
  onEvaluation: true,
  onSnapshot: true,
  snapshotEvery: true,
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
}

/** What `train` tells of a step. */
export interface StepEvent {
  readonly step: number;
  readonly totalSteps: number;
  readonly epoch: number;
  /** The mean loss on the step's data alone: comparable between methods. */
  readonly loss: number;
  /** What is minimised: `loss` and the terms that the method adds, such as AdaLoRA's orthogonality. */
  readonly objective: number;
  readonly learningRate: number;
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
  readonly storedParameters: number;
  readonly ranks: Readonly<Record<string, number>>;
  /** Whether this is the best checkpoint so far. */
  readonly best: boolean;
}

/** Options with every default filled in, and the plan that follows from them. */
export interface TrainSettings extends Required<
  Pick<
    TrainOptions,
    | 'epochs'
    | 'gradientAccumulationSteps'
    | 'learningRate'
    | 'learningRates'
    | 'optimizer'
    | 'clipNorm'
    | 'unclippedGroups'
  >
> {
  readonly loss: Loss;
  readonly schedule: ResolvedSchedule;
  readonly plan: TrainPlan;
  /** Steps after which a checkpoint is judged. */
  readonly evaluationSteps: ReadonlySet<number>;
}

/** Checks the options against the data. @throws ConfigError naming the field that is unknown or impossible. */
export function trainSettings(
  options: TrainOptions,
  data: Pick<TrainingData, 'batchesPerEpoch' | 'kind'>,
): TrainSettings {
  assertKnownOptions('train', options, trainOptionNames);
  const { epochs, learningRate, learningRates = {}, clipNorm = 1, unclippedGroups = [] } = options;
  const { optimizer = adamW() } = options;
  const loss = lossOf(options.loss ?? lossFor(data.kind));
  const { gradientAccumulationSteps = 1, warmupRatio = 0.06, finalRatio = 0.3, selection, snapshotEvery } = options;
  atLeast('epochs', epochs, 1, true);
  atLeast('gradientAccumulationSteps', gradientAccumulationSteps, 1, true);
  for (const [name, rate] of Object.entries({ learningRate, ...learningRates })) atLeast(name, rate, 0);
  assertNamed('loss', loss);
  assertReads(loss, data.kind);
  assertNamed('optimizer', optimizer);
  if (clipNorm !== null) atLeast('clipNorm', clipNorm, Number.MIN_VALUE);
  if (typeof snapshotEvery === 'number') atLeast('snapshotEvery', snapshotEvery, 1, true);
  share('warmupRatio', warmupRatio);
  share('finalRatio', finalRatio);
  if (warmupRatio + finalRatio >= 1) {
    throw new ConfigError(
      `warmupRatio + finalRatio must stay below 1, got ${warmupRatio} + ${finalRatio}`,
      'finalRatio',
    );
  }
  const totalSteps = epochs * Math.ceil(data.batchesPerEpoch / gradientAccumulationSteps);
  const plan: TrainPlan = {
    totalSteps,
    warmupSteps: Math.floor(warmupRatio * totalSteps),
    finalSteps: Math.max(1, Math.floor(finalRatio * totalSteps)),
  };
  return {
    epochs,
    gradientAccumulationSteps,
    learningRate,
    learningRates,
    loss,
    optimizer,
    schedule: resolveSchedule(options.schedule ?? 'linear'),
    clipNorm,
    unclippedGroups,
    plan,
    evaluationSteps: selection ? evaluationSteps(plan, selection.evaluations ?? 3) : new Set(),
  };
}

/** Steps spread evenly over the final ones; the last step is always among them. */
function evaluationSteps({ totalSteps, finalSteps }: TrainPlan, count: number): Set<number> {
  atLeast('selection.evaluations', count, 1, true);
  const spacing = finalSteps / count;
  return new Set(Array.from({ length: count }, (_, index) => totalSteps - Math.floor(index * spacing)));
}

function atLeast(field: string, value: number, least: number, integer = false): void {
  if (Number.isFinite(value) && value >= least && (!integer || Number.isInteger(value))) return;
  const kind = integer ? 'an integer' : 'a number';
  const bound = least === Number.MIN_VALUE ? 'above 0' : `of at least ${least}`;
  throw new ConfigError(`${field} must be ${kind} ${bound}, got ${describe(value)}`, field);
}

function share(field: string, value: number): void {
  if (value >= 0 && value < 1) return;
  throw new ConfigError(`${field} must be a number from 0 to below 1, got ${describe(value)}`, field);
}
