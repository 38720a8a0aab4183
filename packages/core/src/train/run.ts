import { activeRanks, storedParameters } from '../adapter/accounting.js';
import { withResized } from '../ranks/changes.js';
import {
  activeAdapter,
  allLayers,
  fitLayers,
  tensorKey,
  tensorNames,
  type Adapter,
  type PeftModel,
} from '../adapter/peft-model.js';
import { TrainingError } from '../errors.js';
import type { Controller, ControllerChanges, ResizedLayer } from '../contracts/controller.js';
import type { Batch, Model } from '../contracts/model.js';
import type { CarryKind, Optimizer } from '../optimizers/optimizer.js';
import { createRng, type Rng } from '../rng.js';
import { layerSpecs } from '../runtime/inputs.js';
import { downloadAll, releaseAll, uploadAll } from '../runtime/program.js';
import { openRuntime, type Runtime } from '../runtime/runtime.js';
import { hostZeros, mapValues, tensorAt, type HostTensor, type HostTensors, type TensorSpec } from '../tensors.js';
import { meanLoss } from './evaluate.js';
import type { TrainOptions } from './options.js';
import type { TrainSettings } from './plan.js';
import type { Checkpoint, RunDefinition, StoredCheckpoint, TrainingSnapshot } from './snapshot.js';
import { slotsOf, trainedTensors } from './step.js';
import { openSteps, slotSpecs, type Steps, type TrainingState } from './steps.js';

/** The state of a run between two steps. */
export interface Run {
  /** The frozen network. */
  readonly model: Model;
  /** The options with their defaults. */
  readonly settings: TrainSettings;
  /** What must stay the same to resume the run. */
  readonly definition: RunDefinition;
  /** The method's controller, if it has one. */
  readonly controller: Controller | undefined;
  /** Batches of training rows that are held out for the controller's probes. */
  readonly heldOut: readonly Batch[];
  /** The optimizer groups of the trained tensors. */
  readonly groups: readonly string[];
  /** The random stream of dropout. It is forked by the number of steps, those of earlier runs included. */
  readonly noise: Rng;
  /** The number of steps of the earlier runs that this one continues. */
  readonly stepsBefore: number;
  /** The engine and the frozen weights. */
  readonly runtime: Runtime;
  /** The adapter. Its layers, and `steps`, are replaced when the controller resizes them. */
  adapter: Adapter;
  /** The compiled training steps. */
  steps: Steps;
  /** Milliseconds spent compiling earlier `steps`. */
  earlierCompileMs: number;
  /** The adapter's values and the optimizer's slots. */
  state: TrainingState;
  /** The number of the last step; 0 at the start. */
  step: number;
  /** The step of the last snapshot handed out, or that the run resumed from. */
  savedStep: number;
  /** The step after which the optimizer last restarted; 0 if it never did. */
  optimizerStart: number;
  /** The best candidate so far. */
  selected: Checkpoint | null;
  /** The state of early stopping. */
  readonly stopping: Stopping;
  /** Stored parameters, as last counted. */
  stored: number;
  /** The sum of `stored` over all steps. */
  storedSum: number;
}

/** The state of early stopping; unused without it. */
interface Stopping {
  /** The best checkpoint among those evaluated within the budget. */
  best: Checkpoint | null;
  /** The metric's value to improve on. */
  record: number | null;
  /** Evaluations since then. */
  waited: number;
}

/** Prepares a run, from the beginning or from the snapshot in `resume`. */
export function startRun(
  peft: PeftModel,
  plan: Pick<Run, 'settings' | 'definition' | 'controller' | 'heldOut' | 'stepsBefore'>,
  { executor, resume }: TrainOptions,
): Run {
  const { model, seed } = peft;
  const { settings, controller } = plan;
  const adapter = activeAdapter(peft);
  const layers = resume ? fitLayers(adapter, resume.adapter) : adapter.layers;
  const resumed = { ...adapter, layers };
  if (resume?.controller) controller?.restore(resume.controller);
  const values = resume?.adapter ?? adapter.values;
  const restored = (stored: StoredCheckpoint | null | undefined): Checkpoint | null =>
    stored ? { ...stored, layers: fitLayers(adapter, stored.values) } : null;
  const runtime = openRuntime(model, executor);
  return {
    ...plan,
    model,
    runtime,
    groups: [...new Set(trainedTensors(allLayers(resumed)).map(({ group }) => group))],
    adapter: resumed,
    noise: createRng(seed).fork('noise'),
    steps: openSteps(runtime, resumed, settings),
    earlierCompileMs: resume?.compileMs ?? 0,
    state: {
      adapter: uploadAll(executor, values),
      slots: mapValues(resume?.slots ?? emptySlots(settings.optimizer, resumed), (slot) => uploadAll(executor, slot)),
    },
    step: resume?.step ?? 0,
    savedStep: resume?.step ?? (plan.stepsBefore > 0 ? -1 : 0), // -1: the result of earlier runs is not saved yet
    optimizerStart: resume?.optimizerStart ?? 0,
    selected: restored(resume?.selected),
    stopping: {
      best: restored(resume?.stopping?.best),
      record: resume?.stopping?.record ?? null,
      waited: resume?.stopping?.waited ?? 0,
    },
    stored: resume?.stored ?? storedParameters(layers, values),
    storedSum: resume?.storedSum ?? 0,
  };
}

function emptySlots(optimizer: Optimizer, adapter: Adapter): Record<string, HostTensors> {
  const { trained } = layerSpecs(allLayers(adapter));
  return mapValues(slotSpecs(optimizer, trained), (slot) => mapValues(slot, ({ shape }) => hostZeros(shape)));
}

/** Returns the milliseconds spent compiling so far. */
export function compileMs({ earlierCompileMs, steps }: Run): number {
  return earlierCompileMs + steps.compileMs();
}

function releaseState({ runtime: { executor }, state }: Run): void {
  for (const values of [state.adapter, ...Object.values(state.slots)]) releaseAll(executor, values);
}

/** Releases everything that a run holds on its executor. */
export async function closeRun(run: Run): Promise<void> {
  releaseState(run);
  await run.steps.close();
  await run.runtime.close();
}

/** Passes the controller the tensors and losses it asks for, and applies its changes. */
export async function runController(run: Run): Promise<void> {
  const { controller, step } = run;
  const names = controller?.reads(step) ?? [];
  if (!controller || (names.length === 0 && run.heldOut.length === 0)) return;
  const seen = await valuesNamed(run, names);
  const probes = controller.probes?.(step, seen) ?? {};
  if (names.length === 0 && Object.keys(probes).length === 0) return;
  const changes = controller.afterStep(step, seen, await probeLosses(run, probes));
  if (changes) await apply(run, changes);
}

async function apply(run: Run, { values, resized, restartsOptimizer }: ControllerChanges): Promise<void> {
  const { executor } = run.runtime;
  if (values) {
    releaseAll(
      executor,
      mapValues(values, (_, name) => run.state.adapter[name]),
    );
    Object.assign(run.state.adapter, uploadAll(executor, values));
  }
  if (resized) await resize(run, resized);
  if (restartsOptimizer) restartOptimizer(run);
  if (values ?? resized) await recount(run);
}

/** Returns the mean loss on the held-out rows for each probe, with the probe's tensors in place of the adapter's. */
async function probeLosses(
  run: Run,
  probes: Readonly<Record<string, HostTensors>>,
): Promise<Readonly<Record<string, number>>> {
  const { runtime, adapter, state, settings, heldOut } = run;
  const layers = allLayers(adapter);
  assertMeasurable(probes, layerSpecs(layers).all, heldOut);
  const losses: Record<string, number> = {};
  for (const [name, overrides] of Object.entries(probes)) {
    const instead = uploadAll(runtime.executor, overrides);
    try {
      losses[name] = await meanLoss(runtime, layers, { ...state.adapter, ...instead }, heldOut, settings.loss);
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

function restartOptimizer(run: Run): void {
  const { runtime, adapter, state, step, settings } = run;
  for (const [slot, zeros] of Object.entries(emptySlots(settings.optimizer, adapter))) {
    const values = tensorAt(state.slots, slot);
    releaseAll(runtime.executor, values);
    Object.assign(values, uploadAll(runtime.executor, zeros));
  }
  run.optimizerStart = step;
}

/** Replaces layers by ones of other ranks. Values and slots are carried over, and the step is compiled again. */
async function resize(run: Run, resized: Readonly<Record<string, ResizedLayer>>): Promise<void> {
  const { runtime, settings } = run;
  const { executor } = runtime;
  const before = run.adapter;
  const next = { ...before, layers: withResized(before.layers, resized) };
  assertTrains(next);
  const former = await downloadState(run);
  releaseState(run);
  run.earlierCompileMs += run.steps.compileMs();
  await run.steps.close();
  run.adapter = next;
  run.steps = openSteps(runtime, run.adapter, settings);
  const carried = carriedTensors(before, resized, former, settings.optimizer);
  run.state = {
    adapter: uploadAll(executor, carried.adapter),
    slots: mapValues(carried.slots, (slot) => uploadAll(executor, slot)),
  };
}

/** @throws TrainingError for an adapter without a tensor to train. */
function assertTrains(adapter: Adapter): void {
  if (trainedTensors(allLayers(adapter)).length > 0) return;
  throw new TrainingError(
    `the ${adapter.method.name} adapter has nothing left to train: no module has a rank, and no head is trained; prune less, or train the head`,
    'adapter',
  );
}

async function downloadState({ runtime: { executor }, state }: Run): Promise<StateAtRest> {
  const slots: Record<string, HostTensors> = {};
  for (const [slot, values] of Object.entries(state.slots)) slots[slot] = await downloadAll(executor, values);
  return { adapter: await downloadAll(executor, state.adapter), slots };
}

/** The tensors that a run carries from step to step, on the host. */
type StateAtRest = Pick<TrainingSnapshot, 'adapter' | 'slots'>;

/** Returns the adapter's tensors and the optimizer's slots, those of resized layers with their new ranks. */
function carriedTensors(
  { layers }: Adapter,
  resized: Readonly<Record<string, ResizedLayer>>,
  former: StateAtRest,
  optimizer: Optimizer,
) {
  const adapter = new Map(Object.entries(former.adapter));
  const slots = mapValues(former.slots, (slot) => new Map(Object.entries(slot)));
  for (const [path, { layer, carry }] of Object.entries(resized)) {
    const before = layers[path];
    for (const name of before ? tensorNames(before) : []) {
      const key = tensorKey(layer, name);
      const kept = tensorNames(layer).includes(name);
      replace(adapter, key, kept, (tensor) => carry(name, tensor, 'value'));
      const own = slotsOf(former.slots, key);
      const carryOf = (tensor: HostTensor, kind: CarryKind) => carry(name, tensor, kind);
      for (const [slot, tensors] of Object.entries(slots)) {
        replace(tensors, key, kept, () => carriedSlot(optimizer, slot, own, carryOf));
      }
    }
  }
  return { adapter: Object.fromEntries(adapter), slots: mapValues(slots, (slot) => Object.fromEntries(slot)) };
}

function replace<T>(tensors: Map<string, T>, key: string, kept: boolean, next: (tensor: T) => T): void {
  const tensor = tensors.get(key);
  tensors.delete(key);
  if (tensor !== undefined && kept) tensors.set(key, next(tensor));
}

/** Returns one slot of a tensor whose layer has new ranks. */
function carriedSlot(
  { slots: kinds }: Optimizer,
  slot: string,
  slots: HostTensors,
  carry: (tensor: HostTensor, kind: CarryKind) => HostTensor,
): HostTensor {
  const { carried } = tensorAt(kinds, slot);
  const tensor = tensorAt(slots, slot);
  if (typeof carried === 'function') return carried(slots, carry);
  if (carried !== 'restart') return carry(tensor, carried);
  return hostZeros(carry(tensor, 'gradient').shape);
}

/** Counts the stored parameters and returns the ranks alive, by module path. */
export async function recount(run: Run): Promise<Record<string, number>> {
  const { layers } = run.adapter;
  const names = Object.values(layers).flatMap((layer) =>
    (layer.counted ?? tensorNames(layer)).map((name) => tensorKey(layer, name)),
  );
  const values = await valuesNamed(run, [...new Set(names)]);
  run.stored = storedParameters(layers, values);
  return activeRanks(layers, values);
}

function valuesNamed({ runtime, state }: Run, names: readonly string[]): Promise<HostTensors> {
  return downloadAll(runtime.executor, Object.fromEntries(names.map((name) => [name, state.adapter[name]])));
}

/** Downloads the adapter as a checkpoint. */
export async function checkpoint({ runtime, state, adapter, step }: Run): Promise<Checkpoint> {
  const values = await downloadAll(runtime.executor, state.adapter);
  return {
    step,
    layers: adapter.layers,
    values,
    metrics: {},
    storedParameters: storedParameters(adapter.layers, values),
    ranks: activeRanks(adapter.layers, values),
  };
}

/** Downloads everything needed to resume the run. */
export async function snapshot(run: Run): Promise<TrainingSnapshot> {
  const { settings, definition, controller, step, optimizerStart, selected, stopping, stored, storedSum } = run;
  return {
    step,
    optimizerStart,
    training: definition,
    ...(await downloadState(run)),
    controller: controller?.snapshot() ?? null,
    selected: withoutLayers(selected),
    stopping: settings.earlyStopping && { ...stopping, best: withoutLayers(stopping.best) },
    stored,
    storedSum,
    compileMs: compileMs(run),
  };
}

/** Drops a checkpoint's layers, which follow from its values. */
function withoutLayers(checkpoint: Checkpoint | null): StoredCheckpoint | null {
  if (!checkpoint) return null;
  const { layers: _, ...stored } = checkpoint;
  return stored;
}
