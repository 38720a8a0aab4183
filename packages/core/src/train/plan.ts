import * as v from 'valibot';
import { activeAdapter, type PeftModel } from '../adapter/peft-model.js';
import {
  assertArgument,
  assertKnownOptions,
  describe,
  dropoutRate,
  integerFrom,
  keptShare,
  nonNegative,
  parseOptions,
  positive,
} from '../config.js';
import type { AdapterLayer, AdapterLayers } from '../contracts/layer.js';
import type { TrainingData } from '../contracts/model.js';
import { CheckpointError, ConfigError } from '../errors.js';
import { aFunction, anything, aSignal, aTextList, objectLike, someEvaluationData } from '../kinds.js';
import { asLoss, assertLossReads } from '../losses/loss.js';
import { defaultLoss } from '../losses/losses.js';
import { adamW } from '../optimizers/adamw.js';
import { assertNamed, type Named } from '../settings.js';
import { mapValues } from '../tensors.js';
import type { EarlyStopping, Interval, TrainOptions } from './options.js';
import { learningRateFactor, resolveSchedule } from './schedules.js';
import type { RunDefinition, TrainingSnapshot } from './snapshot.js';
import { trainedTensors } from './step.js';

/* What a run will do: its settings, checked once, and the steps that follow from them and the data. */

/** Options with every default filled in, independent of the data's length. */
export type TrainSettings = ReturnType<typeof trainSettings>;

/** The steps of a run. */
export type RunPlan = ReturnType<typeof plannedSteps>;

/** The peak learning rate of a method that has none of its own (`PeftMethod.defaultLearningRate`). */
export const LEARNING_RATE = 1e-3;
/** The peak learning rate of a head beside it: the same with every method. */
export const HEAD_LEARNING_RATE = 2e-3;

/** A rate for the network's own dropout. */
const networkRate = v.custom<'config' | number>(
  (value) => value === 'config' || v.is(dropoutRate, value),
  "'config' or a rate in [0, 1)",
);

/** The fields of `TrainOptions`. */
const trainEntries = {
  executor: anything,
  epochs: integerFrom(1),
  gradientAccumulationSteps: v.optional(integerFrom(1), 1),
  learningRate: v.optional(nonNegative),
  learningRates: v.optional(v.record(v.string(), nonNegative), {}),
  loss: anything,
  optimizer: anything,
  schedule: anything,
  warmupRatio: v.optional(keptShare, 0.06),
  finalRatio: v.optional(keptShare, 0.3),
  dropout: v.optional(networkRate, 0),
  gradientCheckpointing: v.optional(v.boolean()),
  clipNorm: v.optional(v.nullable(positive), 1),
  unclippedGroups: v.optional(aTextList, []),
  selection: anything,
  evaluateEvery: anything,
  earlyStopping: anything,
  onStep: v.optional(aFunction),
  onEvaluation: v.optional(aFunction),
  onEvaluating: v.optional(aFunction),
  onStage: v.optional(aFunction),
  onSnapshot: v.optional(aFunction),
  saveEvery: anything,
  resume: anything,
  signal: v.optional(aSignal),
} satisfies Record<keyof TrainOptions, unknown>;

/** The names of the options of `train`. */
export const trainOptionNames = Object.keys(trainEntries);

/**
 * Checks the options and fills in defaults. @throws ConfigError naming the field that is unknown or impossible.
 */
export function trainSettings(peft: PeftModel, options: TrainOptions, kind: TrainingData['kind']) {
  const parsed = parseOptions('train', trainEntries, options);
  const { warmupRatio, finalRatio, learningRate, learningRates } = parsed;
  const { method } = activeAdapter(peft);
  const { optimizer = adamW(), saveEvery, onSnapshot } = options;
  const loss = asLoss(options.loss ?? defaultLoss(kind));
  assertNamed('loss', loss);
  assertLossReads(loss, kind);
  assertNamed('optimizer', optimizer);
  if (warmupRatio + finalRatio >= 1) {
    throw new ConfigError(
      `warmupRatio + finalRatio must stay below 1, got ${warmupRatio} + ${finalRatio}`,
      'finalRatio',
    );
  }
  if (saveEvery !== undefined && !onSnapshot) {
    throw new ConfigError('saveEvery saves nothing without onSnapshot: give both, or neither', 'saveEvery');
  }
  return {
    ...parsed,
    learningRate: learningRate ?? method.defaultLearningRate ?? LEARNING_RATE,
    learningRates: { ...(learningRate === undefined && { head: HEAD_LEARNING_RATE }), ...learningRates },
    /** The loss to minimise. */
    loss,
    optimizer,
    /** The learning-rate schedule with its warmup. */
    schedule: resolveSchedule(options.schedule ?? 'linear'),
    /** The settings of checkpoint selection; null without it. */
    selection: selectionSettings(options),
    /** How often to evaluate, in addition to candidates. */
    evaluateEvery: options.evaluateEvery ?? (options.earlyStopping && { epochs: 1 }),
    /** The settings of early stopping; null without it. */
    earlyStopping: earlyStoppingSettings(options),
    /** How often to save, or whether to after a step. */
    saveEvery,
  };
}

/**
 * Returns the steps of a run over data of this length. @throws ConfigError for data without batches, and for an
 * interval that is impossible.
 */
export function plannedSteps(settings: TrainSettings, batchesPerEpoch: number) {
  assertArgument('data.batchesPerEpoch', batchesPerEpoch, integerFrom(1));
  const { epochs, gradientAccumulationSteps, warmupRatio, finalRatio, selection } = settings;
  const stepsPerEpoch = Math.ceil(batchesPerEpoch / gradientAccumulationSteps);
  const totalSteps = epochs * stepsPerEpoch;
  const finalSteps = Math.max(1, Math.floor(finalRatio * totalSteps));
  const isSaveDue = saveRule(settings.saveEvery, stepsPerEpoch);
  return {
    totalSteps,
    warmupSteps: Math.floor(warmupRatio * totalSteps),
    finalSteps,
    /** Steps per epoch. */
    stepsPerEpoch,
    /** The steps after which a checkpoint is a candidate. */
    candidateSteps: new Set(selection ? candidateSteps(totalSteps, finalSteps, selection.evaluations) : []),
    /** Steps between two evaluations in addition to those of candidates; null for none. */
    evaluateEvery: stepsOf('evaluateEvery', settings.evaluateEvery, stepsPerEpoch),
    /** Returns whether a snapshot is due after a step. */
    isSaveDue: (step: number): boolean => step < totalSteps && isSaveDue(step),
  };
}

/** Returns the learning rates by group at a step. Groups without tensors are included, for controllers. */
export function learningRatesAt(
  { schedule, learningRate, learningRates }: TrainSettings,
  plan: RunPlan,
  groups: readonly string[],
  step: number,
): Record<string, number> {
  const factor = learningRateFactor(schedule, step, plan);
  const peaks = { ...Object.fromEntries(groups.map((group) => [group, learningRate])), ...learningRates };
  return mapValues(peaks, (peak) => factor * peak);
}

/** Returns the rule for whether a snapshot is due after a step, the last one included. */
export function saveRule(saveEvery: TrainOptions['saveEvery'], stepsPerEpoch: number): (step: number) => boolean {
  if (typeof saveEvery === 'function') return saveEvery;
  const steps = stepsOf('saveEvery', saveEvery, stepsPerEpoch);
  return (step) => steps !== null && step % steps === 0;
}

function selectionSettings({ selection, evaluateEvery, earlyStopping }: TrainOptions) {
  if (!selection) {
    const waiting = Object.entries({ earlyStopping, evaluateEvery }).find(([, value]) => value !== undefined);
    if (!waiting) return null;
    throw new ConfigError(`${waiting[0]} needs data to evaluate on: give selection: { data }`, 'selection');
  }
  assertKnownOptions('train: selection', selection, ['data', 'evaluations', 'margin', 'trainSubset']);
  const { data, trainSubset = data, evaluations = 3, margin = null } = selection;
  assertArgument('selection.evaluations', evaluations, integerFrom(1));
  if (margin !== null) assertArgument('selection.margin', margin, nonNegative);
  assertArgument('selection.data', data, someEvaluationData);
  assertArgument('selection.trainSubset', trainSubset, someEvaluationData);
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
export function stepsOf(field: string, interval: Interval | undefined, stepsPerEpoch: number): number | null {
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
function candidateSteps(totalSteps: number, finalSteps: number, count: number): number[] {
  const spacing = finalSteps / count;
  return Array.from({ length: count }, (_, index) => totalSteps - Math.floor(index * spacing));
}

/** Returns everything that defines the run of this model with these settings. */
export function runDefinition(
  peft: PeftModel,
  settings: TrainSettings,
  { evaluateEvery }: RunPlan,
  { kind, batchesPerEpoch }: Pick<TrainingData, 'kind' | 'batchesPerEpoch'>,
): RunDefinition {
  const { model, seed } = peft;
  const { method, config, saved } = activeAdapter(peft);
  const { loss, optimizer, schedule, selection, earlyStopping, dropout } = settings;
  const { epochs, gradientAccumulationSteps, learningRate, learningRates, warmupRatio, finalRatio, clipNorm } =
    settings;
  const { primaryMetric: metric, lowerIsBetter = false } = selection?.data ?? {};
  return asJson({
    ...{ epochs, gradientAccumulationSteps, learningRate, warmupRatio, finalRatio, clipNorm, seed },
    ...within('learningRates', learningRates),
    ...(dropout !== 0 && { dropout }),
    unclippedGroups: [...settings.unclippedGroups].sort(),
    ...named('loss', loss),
    ...named('optimizer', optimizer),
    ...named('schedule', schedule),
    ...named('method', { name: method.name, settings: config }),
    ...within('model', { fingerprint: model.fingerprint, trainedModules: trainedModules(saved) }),
    ...within('data', { kind, batchesPerEpoch }),
    ...(selection && within('selection', { evaluations: selection.evaluations, metric, lowerIsBetter })),
    ...(selection && selection.margin !== null && within('selection', { margin: selection.margin })),
    ...(earlyStopping && within('earlyStopping', { ...earlyStopping, evaluateEvery })),
  });
}

/** Returns the modules trained in full, including the head unless it is frozen. */
function trainedModules(saved: AdapterLayers): string[] {
  return Object.keys(saved).filter((path) => trainedTensors({ [path]: saved[path] as AdapterLayer }).length > 0);
}

/**
 * Checks that a snapshot's run has the same definition.
 * @throws CheckpointError that names every changed setting with both values, or for a value that is not a snapshot.
 */
export function assertSameRun(snapshot: Partial<TrainingSnapshot>, now: RunDefinition): void {
  const { training: begun } = snapshot;
  if (begun === undefined) {
    const given = snapshot instanceof Uint8Array ? 'bytes: read them by readSnapshot' : describe(snapshot);
    throw new CheckpointError(`resume must be a snapshot, as onSnapshot gets it, got ${given}`, 'resume');
  }
  const names = new Set([...Object.keys(now), ...Object.keys(begun)]);
  const changed = [...names].filter((name) => shown(begun[name]) !== shown(now[name]));
  const owners = changed.filter((name) => !changed.some((other) => name.startsWith(`${other}.`)));
  if (owners.length === 0) return;
  const changes = owners.map((name) => `${name} was ${shown(begun[name])} and is now ${shown(now[name])}`);
  throw new CheckpointError(
    `resume: ${changes.join('; ')}. Resume with the original settings, or start again without resume`,
    'resume',
  );
}

/** Formats a value as JSON, so that it compares equal after writing and reading. */
function shown(value: unknown): string {
  return value === undefined ? 'not set' : JSON.stringify(value);
}

function named(kind: string, { name, settings = {} }: Pick<Named, 'name'> & { settings?: object }): RunDefinition {
  return { [kind]: name, ...within(kind, settings) };
}

function within(owner: string, fields: object): RunDefinition {
  return Object.fromEntries(Object.entries(fields).map(([name, value]) => [`${owner}.${name}`, value as unknown]));
}

/** Returns the definition as it is read back from a file. */
function asJson(definition: RunDefinition): RunDefinition {
  return JSON.parse(JSON.stringify(definition)) as RunDefinition;
}
