import { rankCostIn } from '../ranks/competition.js';
import { totalRanks, rankedPaths } from '../ranks/changes.js';
import { activeAdapter, fitLayers, replaceAdapter, withAdapter, type PeftModel } from '../adapter/peft-model.js';
import type { EvaluationData, RowPredictions, TrainingData } from '../contracts/model.js';
import type { SizeStages } from '../contracts/method.js';
import { CheckpointError, ConfigError, TrainingError } from '../errors.js';
import { createRng } from '../rng.js';
import type { Selection, TrainOptions, TrainResult } from './options.js';
import { plannedSteps, saveRule, stepsOf, trainSettings } from './plan.js';
import {
  mostLaterStages,
  nextStage,
  reasonOf,
  smallestHeld,
  type NextStage,
  type SizingStage,
  type WithoutRanks,
} from './size-stages.js';
import { withoutLayers, type Checkpoint, type SizingProgress, type TrainingSnapshot } from './snapshot.js';
import { sharedReference, type SharedReference } from './reference.js';
import { batchesFrom, scored, stageResult } from './stages.js';

/*
 * Choosing an adapter's size by training: the sparsifying schedule applied to sizes, for a configuration that asks for
 * it (`PeftMethod.sizing`).
 *
 *   dense     trains with the given options, without a limit on what is stored
 *   control   trains a quarter as long with nothing removed: measures what a new optimizer and a short run do by
 *             themselves. Left out where a margin is given
 *   descent   stages as long as the control; each continues from the previous adapter and keeps a quarter of its
 *             stored parameters, down to one rank; ends when two in a row have lost
 *   search    stages between the smallest adapter that has not lost and the next smaller one that has. Each starts from
 *             the former, at the geometric mean of the two sizes
 *   tuning    trains the smallest adapter that has not lost at its ranks; kept where it scores better
 *
 * A stage has lost when its score on the selection data is worse than the dense adapter's by more than the standard
 * error of the difference. Both are scored on the same rows, resampled with replacement (a paired bootstrap). This is
 * the one-standard-error rule (Breiman et al., 1984), applied to sizes. Where rows vary less than repeated training
 * does, as with labels without noise, the limit is twice what the control lost.
 */

/**
 * The length of a stage after the first: a share of the dense stage's steps, but at least STAGE_STEPS where the dense
 * stage has as many.
 */
const STAGE_SHARE = 1 / 4;
const STAGE_STEPS = 40;
/** A stage may lose this many times what the control lost. */
const RESTARTS = 2;
/** The number of standard errors within which a model without its ranks counts as equal to the dense adapter. */
const TIE_ERRORS = 2;
/** The number of bootstrap samples: they give a standard error within about 5 %. */
const RESAMPLES = 200;

/** The state of a run between two stages. */
interface SizingRun {
  readonly peft: PeftModel;
  readonly data: TrainingData;
  readonly options: TrainOptions;
  readonly selection: Selection;
  readonly lengths: Lengths;
  readonly stages: SizingStage[];
  readonly reference: SharedReference;
  /** The dense adapter's predictions; null where a margin is given. */
  dense: RowPredictions | null;
  /** The smallest adapter that has not lost. */
  smallest: Checkpoint | null;
  /** The checkpoint after the last step of the last stage. */
  last: Checkpoint | null;
  compileMs: number;
}

/** Trains after a number of steps of earlier runs. */
type TrainRun = (
  ...given: readonly [number, PeftModel, TrainingData, TrainOptions, SharedReference]
) => Promise<TrainResult>;

/** Trains in stages. `peft` ends as the chosen adapter, with its original configuration. */
export async function trainToSize(
  peft: PeftModel,
  data: TrainingData,
  options: TrainOptions,
  configOf: SizeStages,
  train: TrainRun,
): Promise<TrainResult> {
  const run = startedRun(peft, data, options);
  const { config, layers, values } = activeAdapter(peft);
  const unit = Math.max(...rankedPaths(layers).map(rankCostIn(layers)));
  const rule = { unit, margin: run.selection.margin ?? null };
  let resume = options.resume ?? undefined;
  try {
    // A stage's controller is made for the ranks that the stage starts with.
    if (resume?.adapter) replaceAdapter(peft, { layers: fitLayers(activeAdapter(peft), resume.adapter) });
    for (let next = nextStage(run.stages, rule); next; next = nextStage(run.stages, rule)) {
      const from = !resume && next.from === 'smallest' && run.smallest ? partsOf(run.smallest) : {};
      replaceAdapter(peft, { ...from, config: configOf(next.budget) });
      const trained = await train(stepsBefore(run), peft, stageData(run), stageOptions(run, resume), run.reference);
      resume = undefined;
      const stage = await judged(run, next, trained);
      run.stages.push(stage);
      await options.onStage?.(stage);
    }
  } catch (error) {
    replaceAdapter(peft, { config, layers, values });
    throw error;
  }
  const chosen = run.smallest as Checkpoint;
  replaceAdapter(peft, { config, ...partsOf(chosen) });
  return outcomeOf(run, chosen, await withoutRanks(run));
}

function startedRun(peft: PeftModel, data: TrainingData, options: TrainOptions): SizingRun {
  const { selection, resume } = options;
  const adapter = activeAdapter(peft);
  const { totalSteps } = plannedSteps(trainSettings(peft, options, data.kind), data.batchesPerEpoch);
  assertSizable(adapter.method.name, options);
  const lengths = lengthsOf(totalSteps, totalRanks(adapter.layers), options);
  const reference = sharedReference(peft, data, options);
  const run = { peft, data, options, selection: selection as Selection, lengths, reference, last: null };
  if (!resume?.sizing) return { ...run, stages: [], dense: null, smallest: null, compileMs: 0 };
  const { stages, dense, smallest, compileMs, denseSteps } = resume.sizing;
  if (denseSteps !== lengths.dense) {
    throw new CheckpointError(
      `resume: the first stage had ${denseSteps} steps and now has ${lengths.dense}. Resume with the original data and epochs, or start again without resume`,
      'resume',
    );
  }
  const restored = { ...smallest, layers: fitLayers(adapter, smallest.values) };
  return { ...run, stages: [...stages], dense, smallest: restored, compileMs };
}

/** Checks that a size can be chosen with these options. @throws ConfigError if not. */
function assertSizable(method: string, { selection, earlyStopping }: TrainOptions): void {
  if (!selection) {
    throw new ConfigError(
      `this ${method} chooses its size by scores on separate data: give selection: { data }`,
      'selection',
    );
  }
  const { data, margin = null } = selection;
  if (margin === null && !(data.predictions && data.scoreRows)) {
    throw new ConfigError(
      'selection.data cannot score resampled rows, so there is no standard error to choose a size by: give selection.margin',
      'selection.margin',
    );
  }
  if (earlyStopping) {
    throw new ConfigError(`this ${method} trains in stages of fixed length: leave out earlyStopping`, 'earlyStopping');
  }
}

/** The lengths of the stages. */
interface Lengths {
  /** Steps of the dense stage. */
  readonly dense: number;
  /** Steps of every other stage. */
  readonly stage: number;
  /** The largest possible number of steps of all stages. */
  readonly most: number;
  /** Batches per step. */
  readonly batchesPerStep: number;
}

function lengthsOf(dense: number, ranks: number, { gradientAccumulationSteps = 1 }: TrainOptions): Lengths {
  const stage = Math.min(dense, Math.max(Math.ceil(STAGE_SHARE * dense), STAGE_STEPS));
  return { dense, stage, most: dense + mostLaterStages(ranks) * stage, batchesPerStep: gradientAccumulationSteps };
}

function stepsBefore({ stages, lengths: { dense, stage } }: Pick<SizingRun, 'stages' | 'lengths'>): number {
  return stages.length === 0 ? 0 : dense + (stages.length - 1) * stage;
}

/**
 * Returns all of the data for the dense stage; for a later stage, one epoch of its length that starts where the
 * previous stage ended.
 */
function stageData({ data, options, stages, lengths }: SizingRun): TrainingData {
  if (stages.length === 0) return data;
  const count = lengths.stage * lengths.batchesPerStep;
  return batchesFrom(data, options.epochs * data.batchesPerEpoch + (stages.length - 1) * count, count);
}

function stageOptions(run: SizingRun, resume: TrainingSnapshot | undefined): TrainOptions {
  const { onStage: _, onStep, onEvaluation, onSnapshot, resume: __, epochs: denseEpochs, ...shared } = run.options;
  const { dense, most: totalSteps, batchesPerStep } = run.lengths;
  const [before, stage] = [stepsBefore(run), run.stages.length];
  const isSaveDue = saveRule(run.options.saveEvery, dense / denseEpochs);
  const evaluateEvery = stepsOf('evaluateEvery', shared.evaluateEvery, dense / denseEpochs); // a stage is one epoch
  const laterEpoch = (step: number): number =>
    denseEpochs + Math.floor(((step - 1 - dense) * batchesPerStep) / run.data.batchesPerEpoch);
  const sizing = progressOf(run);
  return {
    ...shared,
    epochs: stage > 0 ? 1 : denseEpochs,
    ...(evaluateEvery !== null && { evaluateEvery }),
    ...(resume && { resume }),
    // No snapshot is saved at the end of a stage, since it would lack the stage's result.
    ...(onSnapshot && {
      saveEvery: (step) => isSaveDue(before + step) || (step === 1 && before > 0 && isSaveDue(before)),
    }),
    ...(onStep && {
      onStep: (event) => {
        const step = before + event.step;
        const epoch = stage === 0 ? event.epoch : laterEpoch(step);
        return onStep({ ...event, step, totalSteps, sizingStage: stage, epoch, epochs: laterEpoch(totalSteps) + 1 });
      },
    }),
    ...(onEvaluation && { onEvaluation: (event) => onEvaluation({ ...event, step: before + event.step }) }),
    ...(onSnapshot && { onSnapshot: (training) => onSnapshot(sizing ? { ...training, sizing } : training) }),
  };
}

function progressOf({ stages, dense, smallest, compileMs, lengths }: SizingRun): SizingProgress | null {
  if (!smallest) return null;
  return { stages: [...stages], dense, smallest: withoutLayers(smallest), compileMs, denseSteps: lengths.dense };
}

/** Scores a stage's result against the dense adapter, and keeps it if it is the smallest that has not lost. */
async function judged(run: SizingRun, { kind, budget }: NextStage, trained: TrainResult): Promise<SizingStage> {
  const { peft, options, selection, stages } = run;
  const { margin = null, trainSubset } = selection;
  const data = await run.reference.addTo(selection.data);
  const { score, outputs } = await scored(peft, data, options.executor);
  if (stages.length === 0 && !Number.isFinite(score)) {
    throw new TrainingError(
      `no size can be compared with the dense adapter: its ${data.primaryMetric} on the selection data is ${score}; change the learning rate or train longer`,
      'selection',
    );
  }
  const trainScore = trainSubset
    ? (await scored(peft, await run.reference.addTo(trainSubset), options.executor)).score
    : null;
  const predictions = margin === null ? (data.predictions?.(outputs) ?? null) : null;
  run.dense ??= predictions;
  run.compileMs += trained.compileMs;
  const first = stages[0] ?? { score, trainScore };
  const worse = worseBy(data, first.score, score);
  const allowed = stages.length === 0 ? 0 : (margin ?? errorOf(run, predictions as RowPredictions));
  const previous = stages.length > 0 ? smallestHeld(stages) : null;
  const takesNothing = kind === 'control' || kind === 'tuning';
  const improves = previous !== null && worseBy(data, previous.score, score) < 0;
  const now = { trained: trainScore, unseen: score };
  const stage: SizingStage = {
    ...stageResult(peft, trained, now, { trained: first.trainScore, unseen: first.score }, data),
    ...{ stage: stages.length, kind, budget, score, trainScore, worse, allowed },
    held: previous === null || (worse <= allowed && (!takesNothing || improves)),
  };
  const before = stepsBefore(run);
  run.last = { ...trained.last, step: before + trained.last.step };
  if (smallestHeld([...stages, stage]) !== stage) return stage;
  const { layers, values } = activeAdapter(peft);
  const { storedParameters, ranks } = stage;
  const { selected } = trained;
  run.smallest = { ...selected, step: before + selected.step, layers, values, storedParameters, ranks };
  return stage;
}

/** Returns how much worse than the dense adapter a stage with these predictions may be. */
function errorOf({ selection: { data }, dense, stages }: SizingRun, predictions: RowPredictions): number {
  const lost = stages.find(({ kind }) => kind === 'control')?.worse ?? 0;
  const error = pairedError(data, dense as RowPredictions, predictions);
  return Number.isFinite(lost) ? Math.max(error, RESTARTS * lost) : error;
}

/**
 * Returns the standard error of the difference of two scores on the same rows: the standard deviation of the difference
 * over samples of rows with replacement. Every pair is compared on the same samples.
 */
export function pairedError(data: EvaluationData, a: RowPredictions, b: RowPredictions): number {
  const rng = createRng(0).fork('paired rows');
  const count = a.actual.length;
  const differences = Array.from({ length: RESAMPLES }, () => {
    const rows = Array.from({ length: count }, () => rng.integer(count));
    const of = (predictions: RowPredictions): number => data.scoreRows?.(predictions, rows)[data.primaryMetric] ?? NaN;
    return of(a) - of(b);
  }).filter(Number.isFinite);
  if (differences.length < 2) return 0;
  const mean = differences.reduce((sum, value) => sum + value, 0) / differences.length;
  const squares = differences.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  return Math.sqrt(squares / (differences.length - 1));
}

function partsOf({ layers, values }: Checkpoint): Pick<Checkpoint, 'layers' | 'values'> {
  return { layers, values };
}

/** Returns the score of the chosen adapter's head with all ranks disabled. */
async function withoutRanks({ peft, options, selection, dense, stages, reference }: SizingRun): Promise<WithoutRanks> {
  const { margin = null } = selection;
  const data = await reference.addTo(selection.data);
  const { score, outputs } = await scored(withAdapter(peft, { layers: {} }), data, options.executor);
  const predictions = margin === null ? data.predictions?.(outputs) : undefined;
  const allowed = predictions ? TIE_ERRORS * pairedError(data, dense as RowPredictions, predictions) : margin;
  return { score, worse: worseBy(data, stages[0]?.score ?? NaN, score), allowed: allowed ?? 0 };
}

/** Returns how much worse a score is than another. */
function worseBy(data: EvaluationData, than: number, score: number): number {
  return (data.lowerIsBetter ? -1 : 1) * (than - score);
}

function outcomeOf(run: SizingRun, selected: Checkpoint, bare: WithoutRanks): TrainResult {
  const { stages, lengths, selection, last, compileMs } = run;
  const { data, margin = null } = selection;
  const steps = (stage: SizingStage): number => (stage.stage === 0 ? lengths.dense : lengths.stage);
  const sum = stages.reduce((all, stage) => all + steps(stage) * stage.meanParameters, 0);
  const chosen = smallestHeld(stages).stage;
  return {
    ...{ totalSteps: lengths.most, stoppedEarly: false, selected, last: last ?? selected, compileMs },
    meanParameters: sum / stepsBefore(run),
    sizing: { stages, chosen, reason: reasonOf(stages, chosen, { metric: data.primaryMetric, margin, bare }) },
  };
}
