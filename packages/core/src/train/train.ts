import { activeAdapter, allLayers, replaceAdapter, type PeftModel } from '../adapter/peft-model.js';
import { assertArgument, warnOnce } from '../config.js';
import { ConfigError, didYouMean } from '../errors.js';
import type { Batch, TrainingData } from '../contracts/model.js';
import { someTrainingData } from '../kinds.js';
import { assertLossReads } from '../losses/loss.js';
import { drawNoise } from '../runtime/context.js';
import { nextTask } from '../runtime/program.js';
import { hostScalar, mapValues, type HostTensors } from '../tensors.js';
import { assertLabels } from './labels.js';
import { assertFinite } from './not-finite.js';
import type { StepEvent, TrainOptions, TrainResult } from './options.js';
import {
  assertSameRun,
  learningRatesAt,
  plannedSteps,
  runDefinition,
  trainSettings,
  type TrainSettings,
} from './plan.js';
import {
  checkpoint,
  closeRun,
  evaluateRun,
  hasStopped,
  isEvaluationDue,
  progressed,
  recount,
  runController,
  selectedCheckpoint,
  snapshot,
  startRun,
  warnOfUninformedChoice,
  type PlannedRun,
  type Run,
} from './run.js';
import { referenced, sharedReference } from './reference.js';
import { trainToSize } from './sizing.js';
import { trainedTensors } from './step.js';
import { printedResult } from './summary.js';

/**
 * Trains an adapter and its head; changes `peft` in place, so that its adapter ends as the selected checkpoint. An
 * adapter that leaves its size to training (`PeftMethod.sizing`) is trained in stages and ends as the smallest one that
 * does not lose against the dense one.
 * @throws ConfigError for unknown or impossible options, and for data without batches or of an unknown kind.
 * @throws DataError for a label that no output of the model represents, before the first step of its epoch.
 * @throws CheckpointError when a setting, the method, the model or the kind of data differs from the snapshot's run; it
 * names the differences.
 * @throws TrainingError when the loss or a gradient is not finite; it names the step and, where nothing has been updated
 * yet, what is at fault, else the largest gradients.
 * @throws the reason of `signal`, after `onSnapshot` got the current state, and whatever a callback throws; the model
 * is then unchanged.
 */
export async function train(peft: PeftModel, data: TrainingData, options: TrainOptions): Promise<TrainResult> {
  const adapter = activeAdapter(peft);
  assertArgument('data', data, someTrainingData);
  trainSettings(peft, options, data.kind); // checks onStep before another function takes its place
  const started = performance.now();
  const steps: StepEvent[] = []; // the first and the last
  const watched: TrainOptions = {
    ...options,
    onStep(event) {
      steps[Math.min(1, steps.length)] = event;
      return options.onStep?.(event);
    },
  };
  const stages = adapter.method.sizing?.(adapter.config);
  const result = await (stages
    ? trainToSize(peft, data, watched, stages, trainAfter)
    : trainAfter(0, peft, data, watched));
  return printedResult(result, { peft, adapter, steps, seconds: (performance.now() - started) / 1000 });
}

/** Trains after `stepsBefore` steps of earlier runs. Dropout continues from there, so that it never repeats theirs. */
export async function trainAfter(
  stepsBefore: number,
  peft: PeftModel,
  given: TrainingData,
  options: TrainOptions,
  reference = sharedReference(peft, given, options),
): Promise<TrainResult> {
  const planned = await referenced(plannedRun(stepsBefore, peft, given, options), reference);
  const run = startRun(peft, planned, options);
  try {
    await runEpochs(run, options);
    const last = await checkpoint(run);
    const selected = selectedCheckpoint(run) ?? last;
    const { layers, values } = selected;
    replaceAdapter(peft, { layers, values, ...(given.isChat && { isChat: true }) }, run.steps.adapter.name);
    const { step, storedSum } = run.progress;
    const outcome = {
      totalSteps: run.plan.totalSteps,
      stoppedEarly: hasStopped(run),
      compileMs: run.steps.compileMs(),
    };
    return { ...outcome, selected, last, meanParameters: storedSum / step };
  } finally {
    await closeRun(run);
  }
}

/** Sets up a run before its first step, and checks everything that can be checked then. */
function plannedRun(stepsBefore: number, peft: PeftModel, given: TrainingData, options: TrainOptions): PlannedRun {
  const settings = trainSettings(peft, options, given.kind);
  const { plan, controller, data, heldOut } = withController(peft, settings, given);
  assertTrainable(peft);
  for (const judged of [options.selection?.data, options.selection?.trainSubset]) {
    if (judged) assertLabels(peft.model, judged.batches);
  }
  if (settings.loss.labels) assertLabels(peft.model, heldOut, given.kind);
  const definition = runDefinition(peft, settings, plan, data);
  if (options.resume) assertSameRun(options.resume, definition);
  warnOfUnknownGroups(peft, settings);
  if (settings.dropout !== 0 && Object.keys(peft.model.dropouts ?? {}).length === 0) {
    warnOnce(`dropout has no effect: ${peft.model.name} has no places for it`);
  }
  return { settings, plan, definition, controller, data, heldOut, stepsBefore };
}

/**
 * Plans the steps and starts the method's controller. The controller needs the plan, and the plan needs the number of
 * rows that the controller's probes leave for training.
 */
function withController(
  peft: PeftModel,
  settings: TrainSettings,
  data: TrainingData,
  heldOut?: readonly Batch[],
): Pick<PlannedRun, 'plan' | 'controller' | 'data' | 'heldOut'> {
  const { method, config, layers } = activeAdapter(peft);
  const plan = plannedSteps(settings, data.batchesPerEpoch);
  const { totalSteps, warmupSteps, finalSteps } = plan;
  const controller = method.controller?.(layers, config, {
    ...{ totalSteps, warmupSteps, finalSteps, seed: peft.seed },
    learningRates: (step) => learningRatesAt(settings, plan, ['default'], step),
  });
  const rows = controller?.probeRows ?? 0;
  if (rows === 0 || heldOut) return { plan, controller, data, heldOut: heldOut ?? [] };
  if (!data.holdOut) {
    throw new ConfigError(`${method.name} measures losses on ${rows} training rows: give data with 'holdOut'`, 'data');
  }
  const parts = data.holdOut(rows);
  return withController(peft, settings, parts.rest, parts.heldOut);
}

/** Checks that exactly one adapter is active and not merged, and that it has tensors to train. */
function assertTrainable(peft: PeftModel): void {
  const { active, enabled, merged, model } = peft;
  if (enabled && active.length === 1 && merged.length === 0) {
    const adapter = activeAdapter(peft);
    if (trainedTensors(allLayers(adapter)).length > 0) return;
    const why = model.head.length > 0 ? 'its head is frozen: leave out trainHead: false' : 'it has no head';
    throw new ConfigError(
      `${adapter.method.name} trains nothing of ${model.name}: ${why}, or set modulesToSave`,
      'head',
    );
  }
  const found = enabled ? `active: ${active.join(', ') || 'none'}; merged: ${merged.join(', ') || 'none'}` : 'disabled';
  throw new ConfigError(`training needs one active adapter, enabled and not merged; the model has ${found}`, 'active');
}

/** Optimizer groups that every run may name. */
const COMMON_GROUPS = ['default', 'head'];

/**
 * Warns of optimizer groups in the options that the adapter does not have, and of rates for groups whose rate the
 * method sets. Options may be shared by several methods.
 */
function warnOfUnknownGroups(peft: PeftModel, { learningRates, unclippedGroups }: TrainSettings): void {
  const adapter = activeAdapter(peft);
  const params = Object.values(allLayers(adapter)).flatMap((layer) => Object.values(layer.params));
  const groups = [...new Set([...COMMON_GROUPS, ...params.map(({ group }) => group)])];
  const isFixed = (name: string): boolean => {
    const own = params.filter(({ group }) => group === name);
    return own.length > 0 && own.every(({ learningRate }) => learningRate !== undefined);
  };
  for (const name of Object.keys(learningRates).filter(isFixed)) {
    warnOnce(
      `learningRates names the group '${name}', whose rate is an option of ${adapter.method.name}: it has no effect`,
    );
  }
  for (const [option, names] of Object.entries({ learningRates: Object.keys(learningRates), unclippedGroups })) {
    for (const name of names.filter((each) => !groups.includes(each))) {
      warnOnce(
        `${option} names the group '${name}'${didYouMean(name, groups)}, which ${adapter.method.name} does not have: it has no effect; the groups are ${groups.join(', ')}`,
      );
    }
  }
}

/** Steps between two counts of the stored parameters, for methods whose ranks change. */
const COUNT_EVERY = 10;

async function runEpochs(run: Run, options: TrainOptions): Promise<void> {
  const { settings, plan, data } = run;
  const { epochs, gradientAccumulationSteps, loss } = settings;
  const { stepsPerEpoch } = plan;
  let saved = options.resume?.step ?? (run.stepsBefore > 0 ? -1 : 0); // -1: the result of earlier runs is not saved yet
  const save = async (): Promise<void> => {
    saved = run.progress.step;
    await options.onSnapshot?.(await snapshot(run));
  };
  for (let epoch = Math.floor(run.progress.step / stepsPerEpoch); epoch < epochs; epoch++) {
    const batches = data.epoch(epoch);
    run.drawn.batches = batches;
    assertLossReads(loss, data.kind, batches[0]?.columns);
    if (loss.labels) assertLabels(run.runtime.model, batches, data.kind);
    for (let part = run.progress.step - epoch * stepsPerEpoch; part < stepsPerEpoch; part++) {
      await nextTask(); // an abort may arrive here
      if (options.signal?.aborted && run.progress.step > saved) await save();
      options.signal?.throwIfAborted();
      const first = part * gradientAccumulationSteps;
      await oneStep(run, batches.slice(first, first + gradientAccumulationSteps), epoch, options);
      if (isEvaluationDue(run)) await evaluateRun(run, options);
      if (hasStopped(run)) return;
      if (plan.isSaveDue(run.progress.step)) await save();
    }
  }
}

async function oneStep(run: Run, batches: readonly Batch[], epoch: number, { onStep }: TrainOptions): Promise<void> {
  const { settings, plan, groups, steps } = run;
  const step = run.progress.step + 1;
  progressed(run, { step });
  const learningRates = learningRatesAt(settings, plan, groups, step);
  const fed = run.controller?.scalars(step, learningRates) ?? {};
  const compiledBefore = steps.compileMs();
  const started = performance.now();
  const read = await run.read(batches);
  const report = await steps.take(partsOf(run, read), {
    scalars: hostScalars(fed),
    optimizer: hostScalars(settings.optimizer.scalars?.(step - run.progress.optimizerStart) ?? {}),
    rates: hostScalars(Object.fromEntries(groups.map((group) => [group, learningRates[group] as number]))),
  });
  const milliseconds = performance.now() - started - (steps.compileMs() - compiledBefore);
  await assertFinite(run, report, read);
  await runController(run);
  await warnOfUninformedChoice(run);
  const isCounted = steps.adapter.method.capabilities.adaptsRank && step % COUNT_EVERY === 1;
  const ranks = isCounted ? await recount(run) : undefined;
  const { stored, storedSum } = run.progress;
  progressed(run, { storedSum: storedSum + stored });
  await onStep?.({
    step,
    totalSteps: plan.totalSteps,
    epoch,
    epochs: settings.epochs,
    loss: report.loss,
    objective: report.objective,
    learningRate: learningRates.default ?? (learningRates[groups[0] as string] as number),
    storedParameters: stored,
    ...(ranks ? { ranks } : {}),
    milliseconds,
    scalars: fed,
  });
}

function partsOf(run: Run, batches: readonly Batch[]) {
  const { noise, stepsBefore, networkDropout, progress, steps } = run;
  const { step } = progress;
  const own = noise.fork(String(stepsBefore + step));
  return batches.map((batch, index) => ({
    batch,
    noise: drawNoise(steps.adapter.layers, index === 0 ? own : own.fork(String(index)), networkDropout),
  }));
}

function hostScalars(scalars: Readonly<Record<string, number>>): HostTensors {
  return mapValues(scalars, (value) => hostScalar(value));
}
