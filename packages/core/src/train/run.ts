import { activeRanks, storedParameters } from '../adapter/accounting.js';
import { activeAdapter, allLayers, fitLayers, tensorKey, tensorNames, type PeftModel } from '../adapter/peft-model.js';
import { warnOnce } from '../config.js';
import { CheckpointError, ConfigError, didYouMean, TrainingError } from '../errors.js';
import type { Controller, ControllerChanges } from '../contracts/controller.js';
import type { Executor } from '../contracts/executor.js';
import type { StepContext } from '../contracts/layer.js';
import type { Batch, EvaluationData, TrainingData } from '../contracts/model.js';
import { isInHead } from '../head.js';
import type { Optimizer } from '../optimizers/optimizer.js';
import { createRng, type Rng } from '../rng.js';
import { layerSpecs } from '../runtime/inputs.js';
import { networkDropout } from '../runtime/context.js';
import { releaseAll, uploadAll } from '../runtime/program.js';
import { openRuntime, type Runtime } from '../runtime/runtime.js';
import type { HostTensors, TensorSpec } from '../tensors.js';
import { meanLoss, outputsWith, primaryMetricOf } from './evaluate.js';
import { openHead, type TrainedOn } from './features.js';
import type { TrainOptions } from './options.js';
import type { RunPlan, TrainSettings } from './plan.js';
import {
  withoutLayers,
  type Checkpoint,
  type RunDefinition,
  type Stopping,
  type StoredCheckpoint,
  type TrainingSnapshot,
} from './snapshot.js';
import { trainedTensors } from './step.js';
import { openSteps, type Steps } from './steps.js';
import { slotSpecs, type UpdatedTensor } from './update-groups.js';

/** What a run is told before it starts, and what does not change. */
export interface PlannedRun {
  /** The options with their defaults. */
  readonly settings: TrainSettings;
  /** The steps that follow from the settings and the data. */
  readonly plan: RunPlan;
  /** What must stay the same to resume the run. */
  readonly definition: RunDefinition;
  /** The rows to train on. */
  readonly data: TrainingData;
  /** The method's controller, if it has one. */
  readonly controller: Controller | undefined;
  /** Batches of training rows that are held out for the controller's probes. */
  readonly heldOut: readonly Batch[];
  /** The number of steps of the earlier runs that this one continues. */
  readonly stepsBefore: number;
  /** What the frozen model gives the training and the selection rows, where the loss needs it. */
  readonly reference?: HostTensors;
}

/** A run between two steps. Functions of this file change it, and nothing else does. */
export interface Run extends PlannedRun {
  /** The optimizer groups of the trained tensors. */
  readonly groups: readonly string[];
  /** The random stream of dropout. It is forked by the number of steps, those of earlier runs included. */
  readonly noise: Rng;
  /** The rates of the network's own dropout, by place. */
  readonly networkDropout: StepContext['networkDropout'];
  /** The engine and the frozen weights. */
  readonly runtime: Runtime;
  /** Returns batches as the runtime's model reads them. */
  readonly read: TrainedOn['read'];
  /** The batches of the epoch in progress. */
  readonly drawn: { batches: readonly Batch[] };
  /** The adapter in training. Others take its place when the controller changes its ranks. */
  steps: Steps;
  /** How far the run is. */
  progress: Progress;
}

/** How far a run is, besides its tensors. */
interface Progress extends Pick<TrainingSnapshot, 'step' | 'optimizerStart' | 'stored' | 'storedSum'> {
  /** The best candidate so far. */
  readonly selected: Checkpoint | null;
  /** The state of early stopping; unused without it. */
  readonly stopping: Stopping<Checkpoint>;
}

/**
 * Starts a run, from the beginning or from the snapshot in `resume`; the caller closes it. @throws CheckpointError for
 * a snapshot that lacks tensors of the optimizer, before anything is opened.
 */
export function startRun(peft: PeftModel, planned: PlannedRun, { executor, resume }: TrainOptions): Run {
  const adapter = activeAdapter(peft);
  const resumed = resume ? { ...adapter, layers: fitLayers(adapter, resume.adapter) } : adapter;
  const { layers, values } = adapter;
  const fresh = { step: 0, optimizerStart: 0, selected: null, stopping: null, storedSum: 0, compileMs: 0 };
  const start = { ...fresh, adapter: values, stored: storedParameters(layers, values), ...resume };
  if (resume?.controller) planned.controller?.restore(resume.controller);
  const restored = (stored: StoredCheckpoint | null): Checkpoint | null =>
    stored && { ...stored, layers: fitLayers(adapter, stored.values) };
  const { step, optimizerStart, stored, storedSum, stopping } = start;
  const progress: Progress = {
    ...{ step, optimizerStart, stored, storedSum, selected: restored(start.selected) },
    stopping: stopping ? { ...stopping, best: restored(stopping.best) } : { best: null, record: null, waited: 0 },
  };
  const tensors = trainedTensors(allLayers(resumed));
  if (resume) assertSlots(resume, planned.settings.optimizer, tensors);
  const dropouts = networkDropout(peft.model, planned.settings.dropout);
  const { runtime, read } = openTrainedOn(peft, planned.data, dropouts, executor);
  const drawn: Run['drawn'] = { batches: [] };
  const settings = {
    ...planned.settings,
    ...(runtime.model !== peft.model && { gradientCheckpointing: false }), // a head alone keeps next to nothing
    networkDropout: dropouts,
    largestBatch: () => largestOf(drawn.batches),
  };
  return {
    ...planned,
    ...{ runtime, read, drawn },
    groups: [...new Set(tensors.map(({ group }) => group))],
    noise: createRng(peft.seed).fork('noise'),
    networkDropout: dropouts,
    steps: openSteps(runtime, resumed, settings, start),
    progress,
  };
}

/** Checks that a snapshot has every slot of the trained tensors. @throws CheckpointError naming one that it lacks. */
function assertSlots({ slots }: TrainingSnapshot, optimizer: Optimizer, trained: readonly UpdatedTensor[]): void {
  const groups = trained.map((tensor) => ({ name: tensor.key, tensors: [tensor] }) as const);
  for (const [slot, specs] of Object.entries(slotSpecs(optimizer, groups))) {
    const lost = Object.entries(specs).find(([key, { shape }]) => slots[slot]?.[key]?.shape.join() !== shape.join());
    if (!lost) continue;
    const [key, { shape }] = lost;
    throw new CheckpointError(
      `resume: the snapshot is damaged: expected '${slot}' of '${key}' [${shape.join(', ')}]; start again without resume`,
      'resume',
    );
  }
}

/** Returns the batch with the most numbers in its inputs. */
function largestOf(batches: readonly Batch[]): Batch {
  const numbers = ({ inputs }: Batch): number => Object.values(inputs).reduce((sum, { data }) => sum + data.length, 0);
  return batches.reduce((largest, batch) => (numbers(batch) > numbers(largest) ? batch : largest));
}

/** Opens what an adapter is trained on: the whole model, or its head where nothing below it can change. */
function openTrainedOn(
  peft: PeftModel,
  data: TrainingData,
  dropouts: StepContext['networkDropout'],
  executor: Executor,
): TrainedOn {
  const { model } = peft;
  const { layers, saved } = activeAdapter(peft);
  const isFixed =
    Object.keys({ ...layers, ...dropouts }).length === 0 && Object.keys(saved).every((path) => isInHead(model, path));
  if (isFixed && model.split?.forward === model.forward) return openHead(model, model.split, data, executor);
  return { runtime: openRuntime(model, executor), read: (batches) => Promise.resolve(batches) };
}

/** Releases everything that a run holds on its executor. */
export async function closeRun({ steps, runtime }: Run): Promise<void> {
  await steps.close();
  await runtime.close();
}

/** Notes the progress of a run. */
export function progressed(run: Run, now: Partial<Progress>): void {
  run.progress = { ...run.progress, ...now };
}

/** Passes the controller the tensors and losses it asks for, and applies its changes. */
export async function runController(run: Run): Promise<void> {
  const { controller, steps, progress } = run;
  const { step } = progress;
  const names = controller?.reads(step) ?? [];
  if (!controller || (names.length === 0 && run.heldOut.length === 0)) return;
  const seen = await steps.read(names);
  const probes = controller.probes?.(step, seen) ?? {};
  if (names.length === 0 && Object.keys(probes).length === 0) return;
  const changes = controller.afterStep(step, seen, await probeLosses(run, probes));
  if (changes) await apply(run, changes);
}

async function apply(run: Run, { values, resized, restartsOptimizer }: ControllerChanges): Promise<void> {
  if (values) run.steps.write(values);
  if (resized) run.steps = await run.steps.resized(resized);
  if (restartsOptimizer) {
    run.steps.restartOptimizer();
    progressed(run, { optimizerStart: run.progress.step });
  }
  if (values ?? resized) await recount(run);
}

/** Returns the mean loss on the held-out rows for each probe, with the probe's tensors in place of the adapter's. */
async function probeLosses(
  run: Run,
  probes: Readonly<Record<string, HostTensors>>,
): Promise<Readonly<Record<string, number>>> {
  const { runtime, steps, settings } = run;
  const layers = allLayers(steps.adapter);
  assertMeasurable(probes, layerSpecs(layers), run.heldOut);
  const heldOut = await run.read(run.heldOut);
  const losses: Record<string, number> = {};
  for (const [name, overrides] of Object.entries(probes)) {
    const instead = uploadAll(runtime.executor, overrides);
    try {
      losses[name] = await meanLoss(runtime, layers, { ...steps.values, ...instead }, heldOut, settings.loss);
    } finally {
      releaseAll(runtime.executor, instead);
    }
  }
  return losses;
}

/**
 * Checks that probes can be measured. @throws TrainingError for tensors that the adapter does not have, or without
 * held-out rows.
 */
function assertMeasurable(
  probes: Readonly<Record<string, HostTensors>>,
  specs: Readonly<Record<string, TensorSpec>>,
  heldOut: readonly Batch[],
): void {
  for (const [probe, overrides] of Object.entries(probes)) {
    if (heldOut.length === 0) {
      throw new TrainingError(`the controller probes '${probe}' but holds out no rows: set its probeRows`, probe);
    }
    for (const [key, { shape }] of Object.entries(overrides)) {
      const expected = specs[key]?.shape;
      if (expected?.join() === shape.join()) continue;
      const asked = expected ? `a tensor of shape [${expected.join(', ')}]` : 'a tensor of the adapter';
      throw new TrainingError(`probe '${probe}': expected ${asked}, got '${key}' [${shape.join(', ')}]`, key);
    }
  }
}

/** Counts the stored parameters and returns the ranks alive, by module path. */
export async function recount(run: Run): Promise<Record<string, number>> {
  const { layers } = run.steps.adapter;
  const names = Object.values(layers).flatMap((layer) =>
    (layer.counted ?? tensorNames(layer)).map((name) => tensorKey(layer, name)),
  );
  const values = await run.steps.read([...new Set(names)]);
  progressed(run, { stored: storedParameters(layers, values) });
  return activeRanks(layers, values);
}

/**
 * Warns if ranks were chosen after this step by a model that has not learned: it gives all selection rows one class.
 */
export async function warnOfUninformedChoice(run: Run): Promise<void> {
  const { controller, steps, settings } = run;
  const { step } = run.progress;
  const data = settings.selection?.data;
  if (!data?.predictions || !controller?.holdsBudget(step) || controller.holdsBudget(step - 1)) return;
  const { predicted, actual } = data.predictions(await outputsNow(run, data));
  if (new Set(predicted).size > 1 || new Set(actual).size === 1) return;
  warnOnce(
    `${steps.adapter.method.name} chose its ranks after step ${step} of ${run.plan.totalSteps}, while the model gave all ${actual.length} selection rows one class, so the task could not decide: train longer`,
  );
}

/** Returns the outputs of the adapter in training, as `evaluationOutputs` does. */
async function outputsNow(
  { runtime, steps, read }: Run,
  data: EvaluationData,
  onProgress?: TrainOptions['onEvaluating'],
): Promise<Float32Array[]> {
  const batches = await read(data.batches);
  return outputsWith(runtime, allLayers(steps.adapter), steps.values, { ...data, batches }, { onProgress });
}

/** Returns whether the adapter is evaluated after this step: as a candidate, or because `evaluateEvery` is due. */
export function isEvaluationDue(run: Run): boolean {
  return run.plan.candidateSteps.has(run.progress.step) || isPeriodic(run);
}

function isPeriodic({ plan: { evaluateEvery }, progress: { step } }: Run): boolean {
  return evaluateEvery !== null && step % evaluateEvery === 0;
}

/** Returns whether early stopping ends the run here, before its last step. */
export function hasStopped({ settings: { earlyStopping }, plan, progress: { stopping, step } }: Run): boolean {
  return earlyStopping !== null && stopping.waited >= earlyStopping.patience && step < plan.totalSteps;
}

/** Returns the checkpoint that the run ends with; null where none qualified. */
export function selectedCheckpoint(run: Run): Checkpoint | null {
  const { selected, stopping } = run.progress;
  return (hasStopped(run) ? stopping.best : null) ?? selected;
}

/**
 * Evaluates the adapter on the selection data. It becomes the selected checkpoint if it is the best candidate within
 * its budget, and the one that early stopping keeps if it is the best of all within it.
 * @throws ConfigError when the scores lack the primary metric or that of early stopping.
 */
export async function evaluateRun(
  run: Run,
  { onEvaluation: report, onEvaluating }: Pick<TrainOptions, 'onEvaluation' | 'onEvaluating'>,
): Promise<void> {
  const { settings, plan, progress } = run;
  if (!settings.selection) return;
  const { data } = settings.selection;
  const metrics = data.score(await outputsNow(run, data, onEvaluating));
  primaryMetricOf(data, metrics);
  const measured = { ...(await checkpoint(run)), metrics };
  const { step, storedParameters: stored, ranks } = measured;
  const holdsBudget = run.controller?.holdsBudget(step) ?? true;
  const best = plan.candidateSteps.has(step) && holdsBudget && isBetter(data, measured, progress.selected);
  if (best) progressed(run, { selected: measured });
  if (settings.earlyStopping && holdsBudget) progressed(run, { stopping: waitedForBetter(run, data, measured) });
  await report?.({ step, metrics, primaryMetric: data.primaryMetric, storedParameters: stored, ranks, best });
}

/** Returns the state of early stopping after an evaluation: periodic ones are counted since the last improvement. */
function waitedForBetter(run: Run, data: EvaluationData, measured: Checkpoint): Stopping<Checkpoint> {
  const { stopping: before } = run.progress;
  const stopping = isBetter(data, measured, before.best) ? { ...before, best: measured } : before;
  if (!run.settings.earlyStopping || !isPeriodic(run)) return stopping;
  const { metric, lowerIsBetter, minDelta } = run.settings.earlyStopping;
  const value = measured.metrics[metric];
  if (value === undefined) {
    const known = Object.keys(measured.metrics);
    throw new ConfigError(
      `earlyStopping.metric is '${metric}'${didYouMean(metric, known)}; the selection data have ${known.join(', ')}`,
      'earlyStopping.metric',
    );
  }
  const gain = (lowerIsBetter ? -1 : 1) * (value - (stopping.record ?? NaN));
  const improves = stopping.record === null ? !Number.isNaN(value) : gain > minDelta;
  return improves ? { ...stopping, record: value, waited: 0 } : { ...stopping, waited: stopping.waited + 1 };
}

/** Compares by the primary metric. A checkpoint whose metric is NaN is never better. */
function isBetter(data: EvaluationData, measured: Checkpoint, than: Checkpoint | null): boolean {
  return orientedScore(data, measured.metrics) > orientedScore(data, than?.metrics);
}

/** Returns the primary metric with its sign set so that higher is better; -Infinity where it is missing. */
function orientedScore(
  { primaryMetric, lowerIsBetter = false }: EvaluationData,
  metrics: Checkpoint['metrics'] = {},
): number {
  const value = metrics[primaryMetric];
  if (value === undefined) return -Infinity;
  return lowerIsBetter ? -value : value;
}

/** Downloads the adapter as a checkpoint. */
export async function checkpoint({ steps, progress: { step } }: Run): Promise<Checkpoint> {
  const { layers } = steps.adapter;
  const values = await steps.read();
  const [stored, ranks] = [storedParameters(layers, values), activeRanks(layers, values)];
  return { step, layers, values, metrics: {}, storedParameters: stored, ranks };
}

/** Downloads everything needed to resume the run. */
export async function snapshot(run: Run): Promise<TrainingSnapshot> {
  const { settings, definition, controller, steps, progress, reference } = run;
  const { selected, stopping, ...counts } = progress;
  return {
    ...counts,
    training: definition,
    ...(await steps.atRest()),
    controller: controller?.snapshot() ?? null,
    selected: withoutLayers(selected),
    stopping: settings.earlyStopping && { ...stopping, best: withoutLayers(stopping.best) },
    compileMs: steps.compileMs(),
    ...(reference && { reference }),
  };
}
