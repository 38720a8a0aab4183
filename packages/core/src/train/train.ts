import { activeAdapter, allLayers, replaceAdapter, type PeftModel } from '../adapter/peft-model.js';
import { CheckpointError, ConfigError, TrainingError } from '../errors.js';
import type { Controller } from '../contracts/method.js';
import type { Batch, EvaluationData, TrainingData } from '../contracts/model.js';
import { mapValues } from '../tensors.js';
import { drawNoise } from '../runtime/noise.js';
import { describeDifference } from '../settings.js';
import { hostScalar, type HostTensors } from '../tensors.js';
import { outputsWith } from './evaluate.js';
import { assertLabels } from './labels.js';
import { trainSettings, type Selection, type TrainOptions, type TrainSettings } from './options.js';
import { checkpoint, closeRun, compileMs, recount, runController, snapshot, startRun, type Run } from './run.js';
import { learningRateFactor } from './schedules.js';
import type { Checkpoint, TrainingSnapshot } from './snapshot.js';
import { trainedTensors } from './step.js';
import type { StepReport } from './steps.js';

/** What a training run ends with. The model's adapter holds the selected checkpoint. */
export interface TrainResult {
  readonly totalSteps: number;
  /** The best checkpoint on the selection data among those that hold the budget; the last one without such data. */
  readonly selected: Checkpoint;
  readonly last: Checkpoint;
  /** Stored parameters of the adapter, averaged over the steps. */
  readonly meanParameters: number;
  readonly compileMs: number;
}

/**
 * Trains an adapter and the head beside it. Changes `peft` in place: its adapter ends as the selected checkpoint.
 * @throws ConfigError for unknown or impossible options, and for data of an unknown kind.
 * @throws DataError for a label that no output of the model represents, before the first step of its epoch.
 * @throws CheckpointError for a snapshot of a run with another loss, optimizer or schedule.
 * @throws TrainingError when the loss is not finite; it names the step and the largest gradients.
 */
export function train(peft: PeftModel, data: TrainingData, options: TrainOptions): Promise<TrainResult> {
  return trainAfter(0, peft, data, options);
}

/** The same after so many steps of earlier runs: its dropout goes on from there, and repeats none of theirs. */
export async function trainAfter(
  stepsBefore: number,
  peft: PeftModel,
  given: TrainingData,
  options: TrainOptions,
): Promise<TrainResult> {
  const { settings, controller, data, heldOut } = plannedRun(peft, given, options);
  assertTrainable(peft);
  if (options.selection) assertLabels(peft.model, options.selection.data.batches);
  if (settings.loss.labels) assertLabels(peft.model, heldOut, given.kind);
  if (options.resume) assertSameTraining(settings, options.resume);
  const run = startRun(peft, { settings, controller, heldOut, stepsBefore }, options);
  try {
    await runEpochs(run, data, options);
    const last = await checkpoint(run);
    const selected = run.selected ?? last;
    replaceAdapter(peft, { layers: selected.layers, values: selected.values });
    const { totalSteps } = settings.plan;
    return { totalSteps, selected, last, meanParameters: run.storedSum / totalSteps, compileMs: compileMs(run) };
  } finally {
    await closeRun(run);
  }
}

/** A run before its first step: the controller knows the plan, and the plan the rows that its probes leave for training. */
function plannedRun(peft: PeftModel, data: TrainingData, options: TrainOptions) {
  const { method, config, layers } = activeAdapter(peft);
  const started = (settings: TrainSettings): Controller | undefined =>
    method.controller?.(layers, config, {
      ...settings.plan,
      seed: peft.seed,
      learningRates: (step) => ratesAt(settings, ['default'], step),
    });
  const settings = trainSettings(options, data);
  const controller = started(settings);
  const rows = controller?.probeRows ?? 0;
  if (rows === 0) return { settings, controller, data, heldOut: [] };
  if (!data.holdOut) {
    throw new ConfigError(`${method.name} measures losses on ${rows} training rows: give data with 'holdOut'`, 'data');
  }
  const { rest, heldOut } = data.holdOut(rows);
  const left = trainSettings(options, rest);
  return { settings: left, controller: started(left), data: rest, heldOut };
}

/** One adapter is trained, on the weights that the model came with, and it has something to train. */
function assertTrainable(peft: PeftModel): void {
  const { active, enabled, merged, model } = peft;
  if (enabled && active.length === 1 && merged.length === 0) {
    const adapter = activeAdapter(peft);
    if (trainedTensors(allLayers(adapter)).length > 0) return;
    throw new ConfigError(
      `${adapter.method.name} trains nothing of ${model.name}, which has no head; name modulesToSave`,
      'head',
    );
  }
  const found = enabled ? `active: ${active.join(', ') || 'none'}; merged: ${merged.join(', ') || 'none'}` : 'disabled';
  throw new ConfigError(`training needs one active adapter, enabled and not merged; the model has ${found}`, 'active');
}

function assertSameTraining(settings: TrainSettings, { training }: TrainingSnapshot): void {
  for (const kind of ['loss', 'optimizer', 'schedule'] as const) {
    const difference = describeDifference(training[kind], settings[kind]);
    if (difference) {
      throw new CheckpointError(`resume: the snapshot's ${kind} is another one: ${difference}`, 'resume');
    }
  }
}

/** Steps between two counts of the stored parameters of a method whose ranks change. */
const COUNT_EVERY = 10;

async function runEpochs(run: Run, data: TrainingData, options: TrainOptions): Promise<void> {
  const { epochs, plan, gradientAccumulationSteps, loss } = run.settings;
  const stepsPerEpoch = plan.totalSteps / epochs;
  for (let epoch = Math.floor(run.step / stepsPerEpoch); epoch < epochs; epoch++) {
    const batches = data.epoch(epoch);
    if (loss.labels) assertLabels(run.model, batches, data.kind);
    for (let part = run.step - epoch * stepsPerEpoch; part < stepsPerEpoch; part++) {
      options.signal?.throwIfAborted();
      run.step++;
      const first = part * gradientAccumulationSteps;
      await oneStep(run, batches.slice(first, first + gradientAccumulationSteps), epoch, options);
      if (run.settings.evaluationSteps.has(run.step) && options.selection) {
        await judge(run, options.selection, options.onEvaluation);
      }
      if (options.onSnapshot && isSnapshotDue(run, options)) await options.onSnapshot(await snapshot(run));
    }
  }
}

function isSnapshotDue({ step, settings: { plan } }: Run, { snapshotEvery = plan.totalSteps }: TrainOptions): boolean {
  if (step === plan.totalSteps) return false;
  return typeof snapshotEvery === 'number' ? step % snapshotEvery === 0 : snapshotEvery(step);
}

async function oneStep(run: Run, batches: readonly Batch[], epoch: number, { onStep }: TrainOptions): Promise<void> {
  const { settings, step } = run;
  const learningRates = ratesAt(settings, run.groups, step);
  const fed = run.controller?.scalars(step, learningRates) ?? {};
  const compiledBefore = run.steps.compileMs();
  const started = performance.now();
  const report = await run.steps.take(run.state, partsOf(run, batches), {
    scalars: hostScalars(fed),
    optimizer: hostScalars(settings.optimizer.scalars?.(step - run.optimizerStart) ?? {}),
    rates: hostScalars(Object.fromEntries(run.groups.map((group) => [group, learningRates[group] as number]))),
  });
  const milliseconds = performance.now() - started - (run.steps.compileMs() - compiledBefore);
  assertFinite(report, step);
  await runController(run);
  const isCounted = run.adapter.method.capabilities.adaptsRank && step % COUNT_EVERY === 1;
  const ranks = isCounted ? await recount(run) : undefined;
  run.storedSum += run.stored;
  onStep?.({
    step,
    totalSteps: settings.plan.totalSteps,
    epoch,
    loss: report.loss,
    objective: report.objective,
    learningRate: learningRates.default ?? settings.learningRate,
    storedParameters: run.stored,
    ...(ranks ? { ranks } : {}),
    milliseconds,
    scalars: fed,
  });
}

function partsOf({ noise, stepsBefore, step, adapter }: Run, batches: readonly Batch[]) {
  const own = noise.fork(String(stepsBefore + step));
  return batches.map((batch, index) => ({
    batch,
    noise: drawNoise(adapter.layers, index === 0 ? own : own.fork(String(index))),
  }));
}

/** Learning rates by group at this step; groups without tensors here are included, for controllers. */
function ratesAt(settings: TrainSettings, groups: readonly string[], step: number): Record<string, number> {
  const factor = learningRateFactor(settings.schedule, step, settings.plan);
  const peaks = {
    ...Object.fromEntries(groups.map((group) => [group, settings.learningRate])),
    ...settings.learningRates,
  };
  return mapValues(peaks, (peak) => factor * peak);
}

/** Measures the adapter on the selection data; keeps it when it is the best that holds its budget. */
async function judge(run: Run, { data }: Selection, tell: TrainOptions['onEvaluation']): Promise<void> {
  const metrics = data.score(await outputsWith(run.runtime, allLayers(run.adapter), run.state.adapter, data));
  const candidate = { ...(await checkpoint(run)), metrics };
  const best =
    (run.controller?.holdsBudget(run.step) ?? true) && meritOf(data, metrics) > meritOf(data, run.selected?.metrics);
  if (best) run.selected = candidate;
  const { step, storedParameters: stored, ranks } = candidate;
  tell?.({ step, metrics, storedParameters: stored, ranks, best });
}

/** How good metrics are: more is better; nothing is worse than none. */
function meritOf(
  { primaryMetric, lowerIsBetter = false }: EvaluationData,
  metrics: Checkpoint['metrics'] = {},
): number {
  const value = metrics[primaryMetric];
  if (value === undefined) return -Infinity;
  return lowerIsBetter ? -value : value;
}

function assertFinite({ loss, objective, gradientNorms }: StepReport, step: number): void {
  const broken = Object.entries(gradientNorms).filter(([, norm]) => !Number.isFinite(norm));
  if (Number.isFinite(objective) && broken.length === 0) return;
  const what = Number.isFinite(loss) ? `objective is ${objective}` : `loss is ${loss}`;
  const largest = Object.entries(gradientNorms)
    .sort(([, a], [, b]) => (Number.isNaN(b) ? 1 : 0) - (Number.isNaN(a) ? 1 : 0) || b - a)
    .slice(0, 3)
    .map(([name, norm]) => `${name} (${norm.toPrecision(3)})`);
  throw new TrainingError(
    `step ${step}: the ${what}; the largest gradients are of ${largest.join(', ')}. Lower the learning rate or clip the gradients`,
    String(step),
  );
}

function hostScalars(scalars: Readonly<Record<string, number>>): HostTensors {
  return mapValues(scalars, (value) => hostScalar(value));
}
