import { activeRanks, storedParameters } from '../adapter/accounting.js';
import { totalRanks } from '../adapter/ranks.js';
import { activeAdapter, replaceAdapter, type PeftModel } from '../adapter/peft-model.js';
import type { TargetConfig } from '../contracts/method.js';
import type { Executor } from '../contracts/executor.js';
import type { EvaluationData, TrainingData } from '../contracts/model.js';
import { assertKnownOptions } from '../config.js';
import { CheckpointError, ConfigError } from '../errors.js';
import { fromEpoch } from './epochs.js';
import { evaluate } from './evaluate.js';
import { keptPercent, primaryMetricOf } from './evaluation.js';
import { assertLabels } from './labels.js';
import { trainOptionNames, type StepEvent, type TrainOptions } from './options.js';
import type { TrainingSnapshot } from './snapshot.js';
import type { TrainResult } from './result.js';
import { trainAfter } from './train.js';

/*
 * The sparsifying schedule (Algorithm 1 of Ding et al., 2023), over levels xi_0, xi_1, ..:
 *
 *   stage 0   trains at xi_0; its best checkpoint on the validation data is kept
 *   stage i   goes on from the model of stage i - 1 at xi_i, with a new optimizer and the learning rate and its warm-up from the
 *             beginning
 *   M_i = 100 m_i / m_0   memorization, m the metric on a fixed part of the training rows
 *   G_i = 100 v_i / v_0   generalization, v the metric on rows that nothing is trained on
 *
 * What a level is, the method says: `PeftMethod.atSparsity`.
 */

/** Epochs of every stage after the first in the released code. */
const STAGE_EPOCHS = 15;

/** What a sparsifying schedule reads. */
export interface SparsifyData {
  readonly train: TrainingData;
  /** A fixed part of the training rows, on which memorization is measured. */
  readonly trainSubset: EvaluationData;
  /** Selects the checkpoint of stage 0. */
  readonly validation: EvaluationData;
  /** Measures generalization; left out, `validation` does that, too, as in the paper. */
  readonly reported?: EvaluationData;
}

/** What a stage ended with: plain JSON. */
export interface StageRecord {
  readonly stage: number;
  /** What the method made its configuration of. */
  readonly level: number;
  /** Gates that the adapter began the schedule with. */
  readonly gates: number;
  /** Ranks that are alive, by module path. */
  readonly ranks: Readonly<Record<string, number>>;
  /** Share of `gates` that is zero or removed, 0 to 1. */
  readonly sparsity: number;
  /** Scalars that the adapter needs on disk. */
  readonly storedParameters: number;
  /** The same, averaged over the steps of the stage. */
  readonly meanParameters: number;
  /** The primary metric on the train subset, m_i. */
  readonly trainMetric: number;
  /** The primary metric on the validation data. */
  readonly validationMetric: number;
  /** The primary metric on the reported data, v_i; on the validation data where there is none. */
  readonly reportedMetric: number;
  /** 100 m_i / m_0, or 100 m_0 / m_i of a metric of which less is better; null where the divisor is not above zero. */
  readonly memorization: number | null;
  /** 100 v_i / v_0, likewise. */
  readonly generalization: number | null;
}

/** A sparsifying schedule in the middle of a stage. */
export interface SparsifySnapshot {
  /** The stages that are finished. */
  readonly stages: readonly StageRecord[];
  /** The stage that is not, to be written by core's `writeSnapshot`. */
  readonly training: TrainingSnapshot;
}

/** Stages have a length and an end of their own. */
type NotOfStages = 'selection' | 'evaluateEvery' | 'earlyStopping';

/** How a sparsifying schedule trains. What is not named here is the same for every stage, as in `train`. */
export interface SparsifyOptions extends Omit<
  TrainOptions,
  NotOfStages | 'resume' | 'onStep' | 'onStage' | 'onSnapshot'
> {
  /** Epochs of stage 0. */
  readonly epochs: number;
  /** A level for each stage: `sparsifyingLevels('linear', 0, 7e-4, 7)`, or a list of one's own. */
  readonly levels: readonly number[];
  /** Epochs of every further stage. Default 15, as in the released code. */
  readonly stageEpochs?: number;
  /** Number of checkpoints that stage 0 selects from, as in `train`'s selection. */
  readonly evaluations?: number;
  /** Called after every step, and awaited. */
  readonly onStep?: (event: StepEvent, stage: number) => unknown;
  /** Called after every stage with its training run, and awaited; the model then holds what the record describes. */
  readonly onStage?: (record: StageRecord, trained: TrainResult) => unknown;
  /** As in `train`: when `saveEvery` is due, and when `signal` aborts. */
  readonly onSnapshot?: (snapshot: SparsifySnapshot) => unknown;
  /**
   * The stages that are finished. With a snapshot of the next one, the schedule goes on from there; without, from the model as
   * it stands, which must be as the last record left it.
   */
  readonly resume?: Pick<SparsifySnapshot, 'stages'> & Partial<SparsifySnapshot>;
}

const OWN_OPTIONS = ['levels', 'stageEpochs', 'evaluations', 'onStage'] satisfies (keyof SparsifyOptions)[];
const NOT_OF_STAGES: readonly string[] = ['selection', 'evaluateEvery', 'earlyStopping'] satisfies NotOfStages[];

const sparsifyOptionNames = [...trainOptionNames.filter((name) => !NOT_OF_STAGES.includes(name)), ...OWN_OPTIONS];

/**
 * Trains an adapter at one sparsity level after another, in place, and records what it still knows at each.
 *
 * @returns a record for every stage, those of `resume` included
 * @throws ConfigError for unknown or impossible options, a method without such levels, or a configuration that sets its own.
 * @throws CheckpointError when `resume` belongs to another schedule or another adapter.
 */
export async function sparsify(peft: PeftModel, data: SparsifyData, options: SparsifyOptions): Promise<StageRecord[]> {
  assertKnownOptions('sparsify', options, sparsifyOptionNames);
  if (options.resume) assertKnownOptions('sparsify: resume', options.resume, ['stages', 'training']);
  const configs = stageConfigs(peft, options);
  assertPossible(peft, options);
  for (const judged of [data.trainSubset, data.validation, data.reported]) {
    if (judged) assertLabels(peft.model, judged.batches);
  }
  const records = [...(options.resume?.stages ?? [])];
  const gates = records[0]?.gates ?? totalRanks(activeAdapter(peft).layers);
  let snapshot = options.resume?.training;
  for (const [stage, { level, config }] of [...configs.entries()].slice(records.length)) {
    replaceAdapter(peft, { config });
    const resume = snapshot && { resume: snapshot };
    const told = { ...stageOptions(data, options, records), ...resume };
    const trained = await trainAfter(stepsBefore(data, options, stage), peft, stageData(data, options, stage), told);
    snapshot = undefined;
    const { lowerIsBetter = false } = data.validation;
    const measured = await measure(peft, data, options.executor);
    const record = describeStage(measured, { peft, trained, gates, level, records, lowerIsBetter });
    records.push(record);
    await options.onStage?.(record, trained);
  }
  return records;
}

/** A stage's epochs go on from those of the stages before, so that no order of the rows comes again. */
function stageData({ train }: SparsifyData, options: SparsifyOptions, stage: number): TrainingData {
  return fromEpoch(train, epochsBefore(options, stage));
}

function epochsBefore({ epochs, stageEpochs = STAGE_EPOCHS }: SparsifyOptions, stage: number): number {
  return stage === 0 ? 0 : epochs + (stage - 1) * stageEpochs;
}

/** Training steps before a stage; at least those, where rows are held out. */
function stepsBefore({ train }: SparsifyData, options: SparsifyOptions, stage: number): number {
  const { gradientAccumulationSteps = 1 } = options;
  return epochsBefore(options, stage) * Math.ceil(train.batchesPerEpoch / gradientAccumulationSteps);
}

/** What `train` is told of the stage after those recorded. */
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
  records: readonly StageRecord[],
): TrainOptions {
  const stage = records.length;
  const stages = [...records];
  return {
    ...shared,
    ...(stage > 0 && { epochs: stageEpochs }),
    ...(stage === 0 && { selection: { data: validation, ...(evaluations !== undefined && { evaluations }) } }),
    ...(onStep && { onStep: (event) => onStep(event, stage) }),
    ...(onSnapshot && { onSnapshot: (training) => onSnapshot({ stages, training }) }),
  };
}

type Measured = Pick<StageRecord, 'trainMetric' | 'validationMetric' | 'reportedMetric'>;

async function measure(peft: PeftModel, data: SparsifyData, executor: Executor): Promise<Measured> {
  const { trainSubset, validation, reported } = data;
  const trainMetric = await primaryMetric(peft, trainSubset, executor);
  const validationMetric = await primaryMetric(peft, validation, executor);
  const reportedMetric = reported ? await primaryMetric(peft, reported, executor) : validationMetric;
  return { trainMetric, validationMetric, reportedMetric };
}

async function primaryMetric(peft: PeftModel, data: EvaluationData, executor: Executor): Promise<number> {
  return primaryMetricOf(data, await evaluate(peft, data, { executor }));
}

/** What a stage ended with, beside what the first one did. */
function describeStage(
  measured: Measured,
  at: Pick<StageRecord, 'gates' | 'level'> & {
    readonly peft: PeftModel;
    readonly trained: TrainResult;
    readonly records: readonly StageRecord[];
    /** Of the metric. */
    readonly lowerIsBetter: boolean;
  },
): StageRecord {
  const { layers, values } = activeAdapter(at.peft);
  const ranks = activeRanks(layers, values);
  const first = at.records[0] ?? measured;
  const kept = (of: keyof Measured): number | null => keptPercent(first[of], measured[of], at.lowerIsBetter);
  return {
    stage: at.records.length,
    level: at.level,
    gates: at.gates,
    ranks,
    sparsity: 1 - total(ranks) / at.gates,
    storedParameters: storedParameters(layers, values),
    meanParameters: at.trained.meanParameters,
    ...measured,
    memorization: kept('trainMetric'),
    generalization: kept('reportedMetric'),
  };
}

function total(ranks: Readonly<Record<string, number>>): number {
  return Object.values(ranks).reduce((sum, rank) => sum + rank, 0);
}

/** The adapter's configuration at each level. @throws ConfigError for what would otherwise fail after hours. */
function stageConfigs(peft: PeftModel, { levels }: SparsifyOptions): StageConfig[] {
  const { method, config } = activeAdapter(peft);
  const atSparsity = method.atSparsity?.bind(method);
  if (!atSparsity) {
    throw new ConfigError(
      `${method.name} has no levels of sparsity; sparsify an adapter of a method that has`,
      'method',
    );
  }
  if (levels.length === 0 || !levels.every((level) => level >= 0 && level < Infinity)) {
    throw new ConfigError(
      `levels are [${levels.join(', ')}]; expected one number of at least 0 for each stage`,
      'levels',
    );
  }
  return levels.map((level) => ({ level, config: atSparsity(config, level) }));
}

interface StageConfig {
  readonly level: number;
  readonly config: TargetConfig;
}

function assertPossible(peft: PeftModel, { levels, stageEpochs = STAGE_EPOCHS, resume }: SparsifyOptions): void {
  if (!Number.isInteger(stageEpochs) || stageEpochs < 1) {
    throw new ConfigError(`stageEpochs must be a whole number of at least 1, got ${stageEpochs}`, 'stageEpochs');
  }
  if (resume) assertResumable(peft, levels, resume);
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
    `resume: stage ${last.stage} ended with ${total(last.ranks)} ranks, the adapter has ${total(ranks)}; give it as that stage left it`,
    'resume',
  );
}

/** How the levels of successive stages are spaced. */
export type LevelSpacing = 'linear' | 'log_linear' | 'exp_linear';

const spacings: Record<LevelSpacing, readonly [(level: number) => number, (level: number) => number]> = {
  linear: [(level) => level, (level) => level],
  log_linear: [Math.exp, Math.log],
  exp_linear: [Math.log, Math.exp],
};

/**
 * The sparsity levels of a sparsifying schedule, one a stage: `linear` evenly spaced; `log_linear` the logarithms of
 * evenly spaced exponentials; `exp_linear` geometric.
 *
 * @param from first level; above zero for `exp_linear`
 * @param to last level
 * @param stages number of levels, at least 1
 * @throws ConfigError naming the argument.
 */
export function sparsifyingLevels(kind: LevelSpacing, from: number, to: number, stages: number): number[] {
  const spacing = Object.hasOwn(spacings, kind) ? spacings[kind] : undefined;
  if (!spacing) throw new ConfigError(`kind is '${kind}'; expected ${Object.keys(spacings).join(', ')}`, 'kind');
  if (!Number.isInteger(stages) || stages < 1) {
    throw new ConfigError(`stages is ${stages}; expected a whole number of at least 1`, 'stages');
  }
  if (kind === 'exp_linear' && !(from > 0 && to > 0)) {
    throw new ConfigError(`exp_linear goes from ${from} to ${to}; both must be above 0`, 'from');
  }
  const [forth, back] = spacing;
  const [start, end] = [forth(from), forth(to)];
  return Array.from({ length: stages }, (_, stage) => {
    if (stage === 0) return from;
    if (stage === stages - 1) return to;
    return back(start + (stage / (stages - 1)) * (end - start));
  });
}
