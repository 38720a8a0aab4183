import * as v from 'valibot';
import { activeRanks } from '../adapter/accounting.js';
import { totalRanks } from '../ranks/changes.js';
import { activeAdapter, replaceAdapter, type PeftModel } from '../adapter/peft-model.js';
import type { TargetConfig } from '../contracts/method.js';
import type { EvaluationData, TrainingData } from '../contracts/model.js';
import { assertArgument, assertKnownOptions, assertOneOf, finite, integerFrom, nonNegative } from '../config.js';
import { CheckpointError, ConfigError } from '../errors.js';
import { someEvaluationData, someTrainingData } from '../kinds.js';
import { sumOf } from '../tensors.js';
import { assertLabels } from './labels.js';
import type { StepEvent, TrainOptions, TrainResult } from './options.js';
import { trainOptionNames } from './plan.js';
import { sharedReference, type SharedReference } from './reference.js';
import type { TrainingSnapshot } from './snapshot.js';
import { fromEpoch, scored, stageResult, type StageResult } from './stages.js';
import { trainAfter } from './train.js';

/*
 * The sparsifying schedule (Algorithm 1 of Ding et al., 2023), over levels xi_0, xi_1, ..:
 *
 *   stage 0   trains at xi_0; its best checkpoint on the validation data is kept
 *   stage i   continues from the model of stage i - 1 at xi_i
 *
 * Memorization and generalization (stages.ts) are relative to stage 0. The method defines what a level means:
 * `PeftMethod.atSparsity`.
 */

/** Epochs of every stage after the first, as in the released code. */
const STAGE_EPOCHS = 15;

/** The data of a sparsifying schedule. */
export interface SparsifyData {
  /** The training rows. */
  readonly train: TrainingData;
  /** A fixed part of the training rows, to measure memorization on. */
  readonly trainSubset: EvaluationData;
  /** The data that selects the checkpoint of stage 0. */
  readonly validation: EvaluationData;
  /** The data to measure generalization on. Default: `validation`, as in the paper. */
  readonly reported?: EvaluationData;
}

/** The result of a stage; plain JSON. */
export interface StageRecord extends StageResult {
  /** The level that the method made the stage's configuration for. */
  readonly level: number;
  /** The number of gates that the adapter started the schedule with. */
  readonly gates: number;
  /** The share of `gates` that is zero or removed, 0 to 1. */
  readonly sparsity: number;
  /** The primary metric on the train subset, m_i. */
  readonly trainMetric: number;
  /** The primary metric on the validation data. */
  readonly validationMetric: number;
  /** The primary metric on the reported data, v_i; on the validation data where none are given. */
  readonly reportedMetric: number;
}

/** A sparsifying schedule in the middle of a stage. */
export interface SparsifySnapshot {
  /** The finished stages. */
  readonly stages: readonly StageRecord[];
  /** The unfinished stage; write it with `writeSnapshot`. */
  readonly training: TrainingSnapshot;
}

/** Options of `train` that do not apply: stages have fixed lengths and their own selection. */
type NotOfStages = 'selection' | 'evaluateEvery' | 'earlyStopping';

/** Options of `sparsify`. Those not listed here are the options of `train` and apply to every stage. */
export interface SparsifyOptions extends Omit<
  TrainOptions,
  NotOfStages | 'resume' | 'onStep' | 'onStage' | 'onSnapshot'
> {
  /** The number of epochs of stage 0. */
  readonly epochs: number;
  /** One level per stage, e.g. `sparsifyingLevels('linear', 0, 7e-4, 7)` or a list of your own. */
  readonly levels: readonly number[];
  /** The number of epochs of every later stage. Default 15, as in the released code. */
  readonly stageEpochs?: number;
  /** The number of checkpoints that stage 0 selects from, as in `train`'s `selection`. Default 3. */
  readonly evaluations?: number;
  /** Called after every step and awaited. */
  readonly onStep?: (event: StepEvent, stage: number) => unknown;
  /**
   * Called after every stage with its training run, and awaited. The model then holds the result that the record
   * describes.
   */
  readonly onStage?: (record: StageRecord, trained: TrainResult) => unknown;
  /** Called when `saveEvery` is due and when `signal` aborts, as in `train`. */
  readonly onSnapshot?: (snapshot: SparsifySnapshot) => unknown;
  /**
   * The finished stages. With a snapshot of the next stage the schedule continues from that snapshot; without one, from
   * the current model, which must be the result of the last record.
   */
  readonly resume?: Pick<SparsifySnapshot, 'stages'> & Partial<SparsifySnapshot>;
}

const OWN_OPTIONS = ['levels', 'stageEpochs', 'evaluations', 'onStage'] satisfies (keyof SparsifyOptions)[];
const EXCLUDED: readonly string[] = ['selection', 'evaluateEvery', 'earlyStopping'] satisfies NotOfStages[];

const someData = v.object({
  train: someTrainingData,
  trainSubset: someEvaluationData,
  validation: someEvaluationData,
  reported: v.optional(someEvaluationData),
});

const someLevels = v.custom<readonly number[]>(
  (value) => v.is(v.pipe(v.array(nonNegative), v.minLength(1)), value),
  'one number of at least 0 for each stage',
);

const sparsifyOptionNames = [...trainOptionNames.filter((name) => !EXCLUDED.includes(name)), ...OWN_OPTIONS];

/**
 * Trains an adapter, in place, at one sparsity level after another, and records its metrics at each.
 *
 * @returns one record per stage, those of `resume` included
 * @throws ConfigError for unknown or impossible options, missing data, a method without sparsity levels, or a
 * configuration that sets its own.
 * @throws CheckpointError when `resume` belongs to another schedule or another adapter.
 */
export async function sparsify(peft: PeftModel, data: SparsifyData, options: SparsifyOptions): Promise<StageRecord[]> {
  assertKnownOptions('sparsify', options, sparsifyOptionNames);
  if (options.resume) assertKnownOptions('sparsify: resume', options.resume, ['stages', 'training']);
  assertArgument('data', data, someData);
  const configs = stageConfigs(peft, options);
  assertArgument('stageEpochs', options.stageEpochs ?? STAGE_EPOCHS, integerFrom(1));
  if (options.resume) assertResumable(peft, options.levels, options.resume);
  for (const judged of [data.trainSubset, data.validation, data.reported]) {
    if (judged) assertLabels(peft.model, judged.batches);
  }
  const { stages: finished = [], training } = options.resume ?? {};
  const records = [...finished];
  const gates = records[0]?.gates ?? totalRanks(activeAdapter(peft).layers);
  const resume = training && { resume: training };
  const reference = sharedReference(peft, data.train, { ...stageOptions(data, options, []), ...resume });
  for (const [stage, config] of configs.entries()) {
    if (stage < finished.length) continue;
    replaceAdapter(peft, { config });
    const stageRun = { ...stageOptions(data, options, records), ...(stage === finished.length && resume) };
    const before = stepsBefore(data, options, stage);
    const trained = await trainAfter(before, peft, stageData(data, options, stage), stageRun, reference);
    const record = await measured(peft, data, options, trained, records, gates, reference);
    records.push(record);
    await options.onStage?.(record, trained);
  }
  return records;
}

function epochsBefore({ epochs, stageEpochs = STAGE_EPOCHS }: SparsifyOptions, stage: number): number {
  return stage === 0 ? 0 : epochs + (stage - 1) * stageEpochs;
}

/** Returns the number of training steps before a stage: an upper bound where rows are held out. */
function stepsBefore({ train }: SparsifyData, options: SparsifyOptions, stage: number): number {
  const { gradientAccumulationSteps = 1 } = options;
  return epochsBefore(options, stage) * Math.ceil(train.batchesPerEpoch / gradientAccumulationSteps);
}

/** Returns the rows of a stage. Its epochs continue those of the earlier stages, so that no order repeats. */
function stageData({ train }: SparsifyData, options: SparsifyOptions, stage: number): TrainingData {
  return fromEpoch(train, epochsBefore(options, stage));
}

/** Returns the options of `train` for the stage after the recorded ones. */
function stageOptions(
  { validation }: SparsifyData,
  {
    levels: _,
    stageEpochs = STAGE_EPOCHS,
    evaluations,
    onStep,
    onStage,
    onSnapshot,
    resume,
    ...shared
  }: SparsifyOptions,
  stages: readonly StageRecord[],
): TrainOptions {
  const stage = stages.length;
  return {
    ...shared,
    ...(stage > 0 && { epochs: stageEpochs }),
    ...(stage === 0 && { selection: { data: validation, ...(evaluations !== undefined && { evaluations }) } }),
    ...(onStep && { onStep: (event) => onStep(event, stage) }),
    ...(onSnapshot && { onSnapshot: (training) => onSnapshot({ stages: [...stages], training }) }),
  };
}

/** Measures the model after a stage, and describes it relative to the first one. */
async function measured(
  peft: PeftModel,
  { trainSubset, validation, reported }: SparsifyData,
  { executor, levels }: SparsifyOptions,
  trained: TrainResult,
  records: readonly StageRecord[],
  gates: number,
  reference: SharedReference,
): Promise<StageRecord> {
  const metricOn = async (data: EvaluationData): Promise<number> =>
    (await scored(peft, await reference.addTo(data), executor)).score;
  const trainMetric = await metricOn(trainSubset);
  const validationMetric = await metricOn(validation);
  const reportedMetric = reported ? await metricOn(reported) : validationMetric;
  const now = { trainMetric, validationMetric, reportedMetric };
  const scores = (of: Pick<StageRecord, 'trainMetric' | 'reportedMetric'>) => ({
    trained: of.trainMetric,
    unseen: of.reportedMetric,
  });
  const stage = records.length;
  const result = stageResult(peft, trained, scores(now), scores(records[0] ?? now), validation);
  const sparsity = 1 - total(result.ranks) / gates;
  return { ...result, ...now, stage, level: levels[stage] as number, gates, sparsity };
}

function total(ranks: Readonly<Record<string, number>>): number {
  return sumOf(Object.values(ranks), Number);
}

/**
 * Returns the adapter's configuration at each level. @throws ConfigError now for what would otherwise fail after hours.
 */
function stageConfigs(peft: PeftModel, { levels }: SparsifyOptions): TargetConfig[] {
  const { method, config } = activeAdapter(peft);
  const atSparsity = method.atSparsity?.bind(method);
  if (!atSparsity) {
    throw new ConfigError(
      `${method.name} has no sparsity levels; sparsify an adapter of a method that has them`,
      'method',
    );
  }
  assertArgument('levels', levels, someLevels);
  return levels.map((level) => atSparsity(config, level));
}

function assertResumable(
  peft: PeftModel,
  levels: readonly number[],
  { stages, training }: NonNullable<SparsifyOptions['resume']>,
): void {
  const foreign = stages.find(({ stage, level }, index) => stage !== index || level !== levels[index]);
  if (foreign) {
    throw new CheckpointError(
      `resume: the record of stage ${foreign.stage} has level ${foreign.level}, the schedule has levels ${levels.join(', ')}`,
      'resume',
    );
  }
  const last = stages.at(-1);
  if (!last || training) return;
  const { layers, values } = activeAdapter(peft);
  const ranks = activeRanks(layers, values);
  if (Object.entries({ ...ranks, ...last.ranks }).every(([path, rank]) => rank === (ranks[path] ?? 0))) return;
  throw new CheckpointError(
    `resume: stage ${last.stage} ended with ${total(last.ranks)} ranks, the adapter has ${total(ranks)}; pass that stage's adapter`,
    'resume',
  );
}

/** The spacing of the levels of successive stages. */
export type LevelSpacing = 'linear' | 'log_linear' | 'exp_linear';

const spacings: Record<LevelSpacing, readonly [(level: number) => number, (level: number) => number]> = {
  linear: [(level) => level, (level) => level],
  log_linear: [Math.exp, Math.log],
  exp_linear: [Math.log, Math.exp],
};

/**
 * Returns the levels of a sparsifying schedule, one per stage. `linear` spaces them evenly, `log_linear` takes
 * logarithms of evenly spaced exponentials, and `exp_linear` spaces them geometrically.
 *
 * @param from first level; above zero for `exp_linear`
 * @param to last level
 * @param stages number of levels, at least 1
 * @throws ConfigError naming the argument.
 */
export function sparsifyingLevels(kind: LevelSpacing, from: number, to: number, stages: number): number[] {
  assertOneOf('kind', kind, Object.keys(spacings));
  assertArgument('from', from, finite);
  assertArgument('to', to, finite);
  assertArgument('stages', stages, integerFrom(1));
  if (kind === 'exp_linear' && !(from > 0 && to > 0)) {
    throw new ConfigError(`exp_linear goes from ${from} to ${to}; both must be above 0`, from > 0 ? 'to' : 'from');
  }
  const [forth, back] = spacings[kind];
  const [start, end] = [forth(from), forth(to)];
  return Array.from({ length: stages }, (_, stage) => {
    if (stage === 0) return from;
    if (stage === stages - 1) return to;
    return back(start + (stage / (stages - 1)) * (end - start));
  });
}
