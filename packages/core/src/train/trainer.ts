import { activeRanks, storedParameters } from '../adapter/accounting.js';
import { withResized } from '../adapter/ranks.js';
import {
  activeAdapter,
  allLayers,
  layersFitting,
  replaceAdapter,
  tensorKey,
  tensorNames,
  type Adapter,
  type PeftModel,
} from '../adapter/peft-model.js';
import { ConfigError, TrainingError } from '../errors.js';
import type { CarriedKind, Controller, ResizedLayer } from '../contracts/method.js';
import type { Batch, DataKind, EvaluationData, Model, TrainingData } from '../contracts/model.js';
import { hostScalar, hostZeros, mapValues, type HostTensors } from '../tensors.js';
import { createRng, type Rng } from '../rng.js';
import type { Checkpoint } from './checkpoint.js';
import { predictWith } from './evaluate.js';
import { layerSpecs } from './feeds.js';
import { assertLabels } from './labels.js';
import { assertObjective } from './loss.js';
import { biasCorrections } from './optimizer.js';
import { trainSettings, type Selection, type TrainOptions, type TrainSettings } from './options.js';
import { learningRateFactor } from './schedule.js';
import { openSession, type Session, type StepReport, type TrainingState, type Values } from './session.js';
import { drawNoise } from './noise.js';
import type { TrainingSnapshot } from './snapshot.js';
import { trainedTensors } from './step.js';

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
 * Trains an adapter and the head beside it, in place: `peft.adapter` ends as the selected checkpoint.
 * @throws ConfigError for unknown or impossible options, and for an unknown objective.
 * @throws DataError for a label that no output of the model represents, before the first step of its epoch.
 * @throws TrainingError when the loss is not finite; it names the step and the largest gradients.
 */
export async function train(peft: PeftModel, data: TrainingData, options: TrainOptions): Promise<TrainResult> {
  const settings = trainSettings(options, data);
  assertObjective(data.kind);
  assertTrainable(peft);
  if (options.selection) assertLabels(peft.model, options.selection.data.batches);
  const run = startRun(peft, settings, options);
  try {
    await runEpochs(run, data, options);
    const last = await checkpoint(run);
    const selected = run.selected ?? last;
    replaceAdapter(peft, { layers: selected.layers, values: selected.values });
    const { totalSteps } = settings.plan;
    return { totalSteps, selected, last, meanParameters: run.storedSum / totalSteps, compileMs: compileMs(run) };
  } finally {
    await closeSession(run);
  }
}

/** One adapter is trained, on the weights that the model came with, and it has something to train. */
function assertTrainable(peft: PeftModel): void {
  const { active, enabled, merged, model } = peft;
  if (enabled && active.length === 1 && merged.length === 0) {
    if (trainedTensors(allLayers(activeAdapter(peft))).length > 0) return;
    const { method } = activeAdapter(peft);
    throw new ConfigError(
      `${method.name} trains nothing of ${model.name}, which has no head; name modulesToSave`,
      'head',
    );
  }
  const found = enabled ? `active: ${active.join(', ') || 'none'}; merged: ${merged.join(', ') || 'none'}` : 'disabled';
  throw new ConfigError(`training needs one active adapter, enabled and not merged; the model has ${found}`, 'active');
}

/** A run between two steps. */
interface Run {
  readonly model: Model;
  readonly settings: TrainSettings;
  readonly controller: Controller | undefined;
  readonly groups: readonly string[];
  /** Where dropout's random numbers come from; forked by the step. */
  readonly noise: Rng;
  /** Its layers change when the controller resizes them, and the session with them. */
  adapter: Adapter;
  session: Session;
  /** Compile time of sessions before this one. */
  earlierCompileMs: number;
  state: TrainingState;
  step: number;
  /** Steps before the optimizer's first: it may begin anew in the middle of a run. */
  optimizerStart: number;
  selected: Checkpoint | null;
  /** Stored parameters, as last counted. */
  stored: number;
  storedSum: number;
}

/** Steps between two counts of the stored parameters of a method whose ranks change. */
const COUNT_EVERY = 10;

function startRun(peft: PeftModel, settings: TrainSettings, { executor, resume }: TrainOptions): Run {
  const { model, seed } = peft;
  const adapter = activeAdapter(peft);
  const { method, config } = adapter;
  const layers = resume ? layersFitting(adapter, resume.adapter) : adapter.layers;
  const resumed = { ...adapter, layers };
  const controller = method.controller?.(adapter.layers, config, { ...settings.plan, seed });
  if (resume?.controller) controller?.restore(resume.controller);
  const values = resume?.adapter ?? adapter.values;
  const session = openSession(model, resumed, executor);
  return {
    model,
    settings,
    controller,
    groups: [...new Set(trainedTensors(allLayers(resumed)).map(({ group }) => group))],
    adapter: resumed,
    noise: createRng(seed).fork('noise'),
    session,
    earlierCompileMs: resume?.compileMs ?? 0,
    state: {
      adapter: session.upload(values),
      moment1: session.upload(resume?.moment1 ?? zeroMoments(resumed)),
      moment2: session.upload(resume?.moment2 ?? zeroMoments(resumed)),
    },
    step: resume?.step ?? 0,
    optimizerStart: resume?.optimizerStart ?? 0,
    selected: resume?.selected ? { ...resume.selected, layers: layersFitting(adapter, resume.selected.values) } : null,
    stored: resume?.stored ?? storedParameters(layers, values),
    storedSum: resume?.storedSum ?? 0,
  };
}

function zeroMoments(adapter: Adapter): HostTensors {
  return mapValues(layerSpecs(allLayers(adapter)).trained, ({ shape }) => hostZeros(shape));
}

function compileMs({ earlierCompileMs, session }: Run): number {
  return earlierCompileMs + session.compileMs();
}

async function closeSession({ session, state }: Run): Promise<void> {
  for (const values of [state.adapter, state.moment1, state.moment2]) session.release(values);
  await session.dispose();
}

async function runEpochs(run: Run, data: TrainingData, options: TrainOptions): Promise<void> {
  const { epochs, plan, gradientAccumulationSteps } = run.settings;
  const stepsPerEpoch = plan.totalSteps / epochs;
  for (let epoch = Math.floor(run.step / stepsPerEpoch); epoch < epochs; epoch++) {
    const batches = data.epoch(epoch);
    assertLabels(run.model, batches, data.kind);
    for (let part = run.step - epoch * stepsPerEpoch; part < stepsPerEpoch; part++) {
      options.signal?.throwIfAborted();
      run.step++;
      const first = part * gradientAccumulationSteps;
      await oneStep(run, batches.slice(first, first + gradientAccumulationSteps), data.kind, epoch, options);
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

async function oneStep(
  run: Run,
  batches: readonly Batch[],
  objective: DataKind,
  epoch: number,
  { onStep }: TrainOptions,
): Promise<void> {
  const { settings, step } = run;
  const learningRates = ratesAt(run);
  const fed = run.controller?.scalars(step, learningRates) ?? {};
  const scalars = hostScalars({
    ...fed,
    ...biasCorrections(step - run.optimizerStart, settings.optimizer),
    ...Object.fromEntries(run.groups.map((group) => [`learningRate.${group}`, learningRates[group] as number])),
  });
  const noise = run.noise.fork(String(step));
  const parts = batches.map((batch, index) => ({
    batch,
    noise: drawNoise(run.adapter.layers, index === 0 ? noise : noise.fork(String(index))),
  }));
  const compiledBefore = run.session.compileMs();
  const started = performance.now();
  const report = await run.session.step({ ...settings, objective }, run.state, parts, scalars);
  const milliseconds = performance.now() - started - (run.session.compileMs() - compiledBefore);
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

/** Learning rates by group at this step; groups without tensors here are included, for controllers. */
function ratesAt({ settings, groups, step }: Run): Record<string, number> {
  const factor = learningRateFactor(settings.schedule, step, settings.plan);
  const peaks = {
    ...Object.fromEntries(groups.map((group) => [group, settings.learningRate])),
    ...settings.learningRates,
  };
  return Object.fromEntries(Object.entries(peaks).map(([group, peak]) => [group, factor * peak]));
}

/** Lets the controller look at the tensors it asks for, and takes over what it changes. */
async function runController(run: Run): Promise<void> {
  const { controller, session, state, step } = run;
  const names = controller?.reads(step) ?? [];
  if (!controller || names.length === 0) return;
  const seen = await session.download(Object.fromEntries(names.map((name) => [name, state.adapter[name]])));
  const { values, resized, restartsOptimizer } = controller.afterStep(step, seen) ?? {};
  if (values) {
    session.release(mapValues(values, (_, name) => state.adapter[name]));
    Object.assign(state.adapter, session.upload(values));
  }
  if (resized) await resize(run, resized);
  if (restartsOptimizer) restartOptimizer(run);
  if (values ?? resized) await recount(run);
}

function restartOptimizer(run: Run): void {
  const { session, adapter, state, step } = run;
  for (const kind of ['moment1', 'moment2'] as const) {
    session.release(state[kind]);
    state[kind] = session.upload(zeroMoments(adapter));
  }
  run.optimizerStart = step;
}

/** Goes on with layers of other ranks: their values and moments carried over, the step compiled anew. */
async function resize(run: Run, resized: Readonly<Record<string, ResizedLayer>>): Promise<void> {
  const carried = async (values: Values, kind: CarriedKind): Promise<HostTensors> => {
    const tensors = new Map(Object.entries(await run.session.download(values)));
    for (const [path, { layer, carry }] of Object.entries(resized)) {
      const former = run.adapter.layers[path];
      for (const name of former ? tensorNames(former) : []) {
        const key = tensorKey(layer, name);
        const tensor = tensors.get(key);
        tensors.delete(key);
        if (tensor && tensorNames(layer).includes(name)) tensors.set(key, carry(name, tensor, kind));
      }
    }
    return Object.fromEntries(tensors);
  };
  const [adapter, moment1, moment2] = [
    await carried(run.state.adapter, 'value'),
    await carried(run.state.moment1, 'moment1'),
    await carried(run.state.moment2, 'moment2'),
  ];
  const { executor } = run.session;
  run.earlierCompileMs += run.session.compileMs();
  await closeSession(run);
  run.adapter = { ...run.adapter, layers: withResized(run.adapter.layers, resized) };
  run.session = openSession(run.model, run.adapter, executor);
  const { upload } = run.session;
  run.state = { adapter: upload(adapter), moment1: upload(moment1), moment2: upload(moment2) };
}

/** Counts what is stored, and gives the live ranks. */
async function recount(run: Run): Promise<Record<string, number>> {
  const values = await run.session.download(run.state.adapter);
  run.stored = storedParameters(run.adapter.layers, values);
  return activeRanks(run.adapter.layers, values);
}

/** Measures the adapter on the selection data; keeps it when it is the best that holds its budget. */
async function judge(run: Run, { data }: Selection, tell: TrainOptions['onEvaluation']): Promise<void> {
  const metrics = data.score(await predictWith(run.session, run.state.adapter, data));
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

async function checkpoint({ session, state, adapter, step }: Run): Promise<Checkpoint> {
  const values = await session.download(state.adapter);
  return {
    step,
    layers: adapter.layers,
    values,
    metrics: {},
    storedParameters: storedParameters(adapter.layers, values),
    ranks: activeRanks(adapter.layers, values),
  };
}

async function snapshot(run: Run): Promise<TrainingSnapshot> {
  const { session, state, controller, step, optimizerStart, selected, stored, storedSum } = run;
  return {
    step,
    optimizerStart,
    adapter: await session.download(state.adapter),
    moment1: await session.download(state.moment1),
    moment2: await session.download(state.moment2),
    controller: controller?.snapshot() ?? null,
    selected: selected && judgement(selected),
    stored,
    storedSum,
    compileMs: compileMs(run),
  };
}

/** A checkpoint without its layers, which are the run's. */
function judgement({ layers: _, ...rest }: Checkpoint): Omit<Checkpoint, 'layers'> {
  return rest;
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

function hostScalars(scalars: Record<string, number>): HostTensors {
  return mapValues(scalars, (value) => hostScalar(value));
}
