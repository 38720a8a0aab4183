import * as v from 'valibot';
import { assertArgument, assertKnownOptions, describe } from '../config.js';
import { ConfigError } from '../errors.js';
import type { TrainPlan } from '../contracts/controller.js';
import type { EvaluationData, TrainingData } from '../contracts/model.js';
import { aRecord, aSignal, aTextList } from '../kinds.js';
import { asLoss, assertLossReads, type Loss } from '../losses/loss.js';
import { defaultLoss } from '../losses/losses.js';
import { adamW } from '../optimizers/adamw.js';
import { assertNamed } from '../settings.js';
import { trainOptionNames, type EarlyStopping, type Interval, type Selection, type TrainOptions } from './options.js';
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
  assertKnownOptions('train', options, trainOptionNames);
  const { epochs, learningRate, learningRates = {}, clipNorm = 1, unclippedGroups = [] } = options;
  const { optimizer = adamW() } = options;
  const loss = asLoss(options.loss ?? defaultLoss(data.kind));
  const { gradientAccumulationSteps = 1, warmupRatio = 0.06, finalRatio = 0.3 } = options;
  atLeast('epochs', epochs, 1, true);
  atLeast('gradientAccumulationSteps', gradientAccumulationSteps, 1, true);
  assertArgument('learningRates', learningRates, aRecord);
  assertArgument('unclippedGroups', unclippedGroups, aTextList);
  for (const [name, rate] of Object.entries({ learningRate, ...learningRates })) atLeast(name, rate, 0);
  assertNamed('loss', loss);
  assertLossReads(loss, data.kind);
  assertNamed('optimizer', optimizer);
  if (clipNorm !== null) atLeast('clipNorm', clipNorm, Number.MIN_VALUE);
  share('warmupRatio', warmupRatio);
  share('finalRatio', finalRatio);
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
  for (const name of ['onStep', 'onEvaluation', 'onStage', 'onSnapshot'] as const) {
    if (options[name] !== undefined && typeof options[name] !== 'function') {
      throw new ConfigError(`${name} must be a function, got ${describe(options[name])}`, name);
    }
  }
  assertArgument('signal', options.signal, v.optional(aSignal));
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
  atLeast('selection.evaluations', evaluations, 1, true);
  if (margin !== null) atLeast('selection.margin', margin, 0);
  if (!Array.isArray((data as EvaluationData | undefined)?.batches)) {
    throw new ConfigError(
      `selection.data must be evaluation data, with batches and a score, got ${describe(data)}`,
      'selection.data',
    );
  }
  return { data, evaluations, margin };
}

function earlyStoppingSettings({ earlyStopping, selection }: TrainOptions): Required<EarlyStopping> | null {
  if (!earlyStopping || !selection) return null;
  assertKnownOptions('train: earlyStopping', earlyStopping, ['patience', 'metric', 'lowerIsBetter', 'minDelta']);
  const { primaryMetric, lowerIsBetter: ofPrimary = false } = selection.data;
  const { patience, metric = primaryMetric, minDelta = 0 } = earlyStopping;
  const { lowerIsBetter = metric === primaryMetric && ofPrimary } = earlyStopping;
  atLeast('earlyStopping.patience', patience, 1, true);
  atLeast('earlyStopping.minDelta', minDelta, 0);
  return { patience, metric, lowerIsBetter, minDelta };
}

/** Converts an interval to steps; null for none. */
function stepsOf(field: string, interval: Interval | undefined, stepsPerEpoch: number): number | null {
  if (interval === undefined) return null;
  if (typeof interval === 'number') {
    atLeast(field, interval, 1, true);
    return interval;
  }
  if (Object(interval) !== interval) {
    throw new ConfigError(`${field} must be a number of steps or { epochs }, got ${describe(interval)}`, field);
  }
  assertKnownOptions(`train: ${field}`, interval, ['epochs']);
  atLeast(`${field}.epochs`, interval.epochs, 1, true);
  return interval.epochs * stepsPerEpoch;
}

/** Returns `count` steps spread evenly over the final ones; the last step is always included. */
function candidateSteps({ totalSteps, finalSteps }: TrainPlan, count: number): Set<number> {
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
