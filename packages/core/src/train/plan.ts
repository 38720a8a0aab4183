import { assertArgument, assertKnownOptions, integerFrom, nonNegative, parseOptions } from '../config.js';
import { ConfigError } from '../errors.js';
import type { TrainPlan } from '../contracts/controller.js';
import type { TrainingData } from '../contracts/model.js';
import { objectLike, someEvaluationData } from '../kinds.js';
import { asLoss, assertLossReads, type Loss } from '../losses/loss.js';
import { defaultLoss } from '../losses/losses.js';
import { adamW } from '../optimizers/adamw.js';
import { assertNamed } from '../settings.js';
import { trainEntries, type EarlyStopping, type Interval, type Selection, type TrainOptions } from './options.js';
import { resolveSchedule, type ResolvedSchedule } from './schedules.js';

/** Options with every default filled in, and the plan that follows from them. */
export interface TrainSettings extends Required<
  Pick<
    TrainOptions,
    | 'epochs'
    | 'gradientAccumulationSteps'
    | 'learningRate'
    | 'learningRates'
    | 'optimizer'
    | 'warmupRatio'
    | 'finalRatio'
    | 'clipNorm'
    | 'unclippedGroups'
  >
> {
  /** The loss to minimise. */
  readonly loss: Loss;
  /** The learning-rate schedule with its warmup. */
  readonly schedule: ResolvedSchedule;
  /** The numbers of steps. */
  readonly plan: TrainPlan;
  /** The settings of checkpoint selection; null without it. */
  readonly selection: Required<Pick<Selection, 'data' | 'evaluations' | 'margin'>> | null;
  /** The steps after which a checkpoint is a candidate. */
  readonly candidateSteps: ReadonlySet<number>;
  /** Steps between two evaluations in addition to those of candidates; null for none. */
  readonly evaluateEvery: number | null;
  /** The settings of early stopping; null without it. */
  readonly earlyStopping: Required<EarlyStopping> | null;
  /** Returns whether a snapshot is due after a step. */
  readonly isSaveDue: (step: number) => boolean;
}

/**
 * Checks the options against the data and fills in defaults. @throws ConfigError naming the field that is unknown or
 * impossible.
 */
export function trainSettings(
  options: TrainOptions,
  data: Pick<TrainingData, 'batchesPerEpoch' | 'kind'>,
): TrainSettings {
  const parsed = parseOptions('train', trainEntries, options);
  const { epochs, gradientAccumulationSteps, warmupRatio, finalRatio } = parsed;
  const { optimizer = adamW() } = options;
  const loss = asLoss(options.loss ?? defaultLoss(data.kind));
  assertNamed('loss', loss);
  assertLossReads(loss, data.kind);
  assertNamed('optimizer', optimizer);
  if (warmupRatio + finalRatio >= 1) {
    throw new ConfigError(
      `warmupRatio + finalRatio must stay below 1, got ${warmupRatio} + ${finalRatio}`,
      'finalRatio',
    );
  }
  const stepsPerEpoch = Math.ceil(data.batchesPerEpoch / gradientAccumulationSteps);
  const totalSteps = epochs * stepsPerEpoch;
  const plan: TrainPlan = {
    totalSteps,
    warmupSteps: Math.floor(warmupRatio * totalSteps),
    finalSteps: Math.max(1, Math.floor(finalRatio * totalSteps)),
  };
  const { learningRate, learningRates, clipNorm, unclippedGroups } = parsed;
  return {
    epochs,
    gradientAccumulationSteps,
    learningRate,
    learningRates,
    loss,
    optimizer,
    schedule: resolveSchedule(options.schedule ?? 'linear'),
    warmupRatio,
    finalRatio,
    clipNorm,
    unclippedGroups,
    plan,
    ...watchSettings(options, plan, stepsPerEpoch),
  };
}

type WatchSettings = Pick<
  TrainSettings,
  'selection' | 'candidateSteps' | 'evaluateEvery' | 'earlyStopping' | 'isSaveDue'
>;

/** Returns when a run is evaluated, saved and stopped. */
function watchSettings(options: TrainOptions, plan: TrainPlan, stepsPerEpoch: number): WatchSettings {
  const selection = selectionSettings(options);
  const { evaluateEvery = options.earlyStopping && { epochs: 1 } } = options;
  const isSaveDue = saveRule(options, stepsPerEpoch);
  return {
    selection,
    candidateSteps: selection ? candidateSteps(plan, selection.evaluations) : new Set(),
    evaluateEvery: stepsOf('evaluateEvery', evaluateEvery, stepsPerEpoch),
    earlyStopping: earlyStoppingSettings(options),
    isSaveDue: (step) => step < plan.totalSteps && isSaveDue(step),
  };
}

/** Returns whether a snapshot is due after a step. */
export function saveRule(
  { saveEvery, onSnapshot }: Pick<TrainOptions, 'saveEvery' | 'onSnapshot'>,
  stepsPerEpoch: number,
): (step: number) => boolean {
  if (saveEvery !== undefined && !onSnapshot) {
    throw new ConfigError('saveEvery saves nothing without onSnapshot: give both, or neither', 'saveEvery');
  }
  if (typeof saveEvery === 'function') return saveEvery;
  const steps = stepsOf('saveEvery', saveEvery, stepsPerEpoch);
  return (step) => steps !== null && step % steps === 0;
}

function selectionSettings({ selection, evaluateEvery, earlyStopping }: TrainOptions): TrainSettings['selection'] {
  if (!selection) {
    const waiting = Object.entries({ earlyStopping, evaluateEvery }).find(([, value]) => value !== undefined);
    if (!waiting) return null;
    throw new ConfigError(`${waiting[0]} needs data to evaluate on: give selection: { data }`, 'selection');
  }
  assertKnownOptions('train: selection', selection, ['data', 'evaluations', 'margin', 'trainSubset']);
  const { data, evaluations = 3, margin = null } = selection;
  assertArgument('selection.evaluations', evaluations, integerFrom(1));
  if (margin !== null) assertArgument('selection.margin', margin, nonNegative);
  assertArgument('selection.data', data, someEvaluationData);
  return { data, evaluations, margin };
}

function earlyStoppingSettings({ earlyStopping, selection }: TrainOptions): Required<EarlyStopping> | null {
  if (!earlyStopping || !selection) return null;
  assertKnownOptions('train: earlyStopping', earlyStopping, ['patience', 'metric', 'lowerIsBetter', 'minDelta']);
  const { primaryMetric, lowerIsBetter: ofPrimary = false } = selection.data;
  const { patience, metric = primaryMetric, minDelta = 0 } = earlyStopping;
  const { lowerIsBetter = metric === primaryMetric && ofPrimary } = earlyStopping;
  assertArgument('earlyStopping.patience', patience, integerFrom(1));
  assertArgument('earlyStopping.minDelta', minDelta, nonNegative);
  return { patience, metric, lowerIsBetter, minDelta };
}

const anInterval = objectLike<object>('a number of steps or { epochs }', {});

/** Converts an interval to steps; null for none. */
function stepsOf(field: string, interval: Interval | undefined, stepsPerEpoch: number): number | null {
  if (interval === undefined) return null;
  if (typeof interval === 'number') {
    assertArgument(field, interval, integerFrom(1));
    return interval;
  }
  assertArgument(field, interval, anInterval);
  assertKnownOptions(`train: ${field}`, interval, ['epochs']);
  assertArgument(`${field}.epochs`, interval.epochs, integerFrom(1));
  return interval.epochs * stepsPerEpoch;
}

/** Returns `count` steps spread evenly over the final ones; the last step is always included. */
function candidateSteps({ totalSteps, finalSteps }: TrainPlan, count: number): Set<number> {
  const spacing = finalSteps / count;
  return new Set(Array.from({ length: count }, (_, index) => totalSteps - Math.floor(index * spacing)));
}
