import { allLayers, tensorKey, tensorNames, type Adapter } from '../adapter/peft-model.js';
import { withResized } from '../ranks/changes.js';
import type { ResizedLayer } from '../contracts/controller.js';
import type { CompileOptions, InputSpec } from '../contracts/executor.js';
import type { AdapterLayers } from '../contracts/layer.js';
import type { Batch } from '../contracts/model.js';
import { TrainingError } from '../errors.js';
import { lossWeight } from '../losses/loss.js';
import { carriedSlot, type CarryKind, type Optimizer } from '../optimizers/optimizer.js';
import { axisSizes, fedBatch, layerSpecs } from '../runtime/inputs.js';
import { recentlyUsed } from '../runtime/leases.js';
import {
  downloadAll,
  openProgram,
  releaseAll,
  uploadAll,
  type OnDevice,
  type Program,
  type Specs,
  type Values,
} from '../runtime/program.js';
import type { Runtime } from '../runtime/runtime.js';
import {
  floats,
  hostScalar,
  hostZeros,
  mapValues,
  specOf,
  tensorAt,
  tensorsAt,
  type HostTensor,
  type HostTensors,
  type TensorSpec,
} from '../tensors.js';
import type { TrainingSnapshot } from './snapshot.js';
import {
  addPart,
  advance,
  slotsOf,
  trainedTensors,
  trainStep,
  type EndInputs,
  type Gradients,
  type PartInputs,
  type StepDefinition,
  type StepInputs,
  type StepOutputs,
} from './step.js';
import { heldSlot, slotByTensor, slotSpecs, updateGroups } from './update-groups.js';

/** The tensors that a run carries from step to step: the adapter's, and the optimizer's slots. */
type StateAtRest = Pick<TrainingSnapshot, 'adapter' | 'slots'>;

/** The same tensors as values of an executor; the slots by group. */
type StateOnDevice = {
  readonly [Kind in keyof StateAtRest]: Kind extends 'slots' ? Readonly<Record<string, Values>> : Values;
};

/** One batch of a training step, with random numbers of its own. */
interface StepPart {
  readonly batch: Batch;
  /** The integers from `drawNoise` that seed dropout. */
  readonly noise: HostTensors;
}

/** The scalars of one step, as in `UpdateInputs`. */
type StepScalars = Readonly<Record<'optimizer' | 'rates' | 'scalars', HostTensors>>;

/** The report of one step. */
export interface StepReport {
  /** The mean loss on the data alone. */
  readonly loss: number;
  /** The minimised value: `loss` plus the terms that the method adds. */
  readonly objective: number;
  /** The norm of each trained tensor's gradient before clipping, by name. */
  readonly gradientNorms: Readonly<Record<string, number>>;
}

/** An adapter in training on an executor: its compiled steps, and the tensors that they change. */
export interface Steps {
  /** The adapter. Its own values are those before training. */
  readonly adapter: Adapter;
  /** The values of its tensors, by `<path>.<name>`, on the executor. */
  readonly values: Values;
  /** Runs one step on the batches of `parts`, as if they were one batch. */
  take(parts: readonly StepPart[], scalars: StepScalars): Promise<StepReport>;
  /** Downloads tensors of the adapter. Default: all of them. */
  read(names?: readonly string[]): Promise<HostTensors>;
  /** Downloads all tensors. */
  atRest(): Promise<StateAtRest>;
  /** Replaces tensors of the adapter. */
  write(values: HostTensors): void;
  /** Sets the optimizer's slots to zero. */
  restartOptimizer(): void;
  /**
   * Returns steps of the adapter with layers of other ranks, to be compiled again. Values and slots are carried over,
   * and these steps are closed.
   * @throws TrainingError where nothing is left to train.
   */
  resized(resized: Readonly<Record<string, ResizedLayer>>): Promise<Steps>;
  /** Returns the milliseconds spent compiling so far, those of steps before a change of ranks included. */
  compileMs(): number;
  /** Releases the tensors, the compiled programs and the frozen weights. */
  close(): Promise<void>;
}

/** The settings of a step that do not depend on the model and its layers. */
export interface StepSettings extends Pick<
  StepDefinition,
  'loss' | 'optimizer' | 'clipNorm' | 'unclippedGroups' | 'networkDropout'
> {
  /** As in `TrainOptions`. */
  readonly gradientCheckpointing?: boolean | undefined;
  /** Returns the batch whose step needs most memory. */
  largestBatch(): Batch;
}

/** Where steps begin: without slots, those are zeros. */
type StepsStart = Pick<TrainingSnapshot, 'adapter' | 'compileMs'> & Partial<StateAtRest>;

/** Prepares the training steps of an adapter; the caller closes them. */
export function openSteps(runtime: Runtime, adapter: Adapter, settings: StepSettings, start: StepsStart): Steps {
  const { executor } = runtime;
  const { optimizer } = settings;
  const programs = openPrograms(runtime, allLayers(adapter), Object.keys(adapter.layers).length, settings);
  const { keys, groups } = programs;
  const state: StateOnDevice = {
    adapter: uploadAll(executor, start.adapter),
    slots: mapValues(
      start.slots ? mapValues(start.slots, (slot) => heldSlot(groups, slot)) : emptySlots(programs),
      (slot) => uploadAll(executor, slot),
    ),
  };
  const steps: Steps = {
    adapter,
    values: state.adapter,
    async take(parts, numbers) {
      const [first, ...others] = parts;
      if (!first) throw new TrainingError('a step needs a batch');
      const next = await (others.length === 0
        ? programs.whole(state, first, numbers)
        : programs.inParts(state, parts, numbers));
      swapIn(executor, state.adapter, next.adapter);
      for (const [slot, values] of Object.entries(next.slots)) swapIn(executor, tensorAt(state.slots, slot), values);
      const report = await downloadAll(executor, next.report);
      releaseAll(executor, next.report);
      return reportOf(keys, report);
    },
    read: (names = Object.keys(state.adapter)) =>
      downloadAll(executor, Object.fromEntries(names.map((name) => [name, state.adapter[name]]))),
    async atRest() {
      const slots: Record<string, HostTensors> = {};
      for (const [slot, values] of Object.entries(state.slots)) {
        slots[slot] = slotByTensor(groups, await downloadAll(executor, values));
      }
      return { adapter: await steps.read(), slots };
    },
    write: (values) => swapIn(executor, state.adapter, uploadAll(executor, values)),
    restartOptimizer() {
      for (const [slot, zeros] of Object.entries(emptySlots(programs))) {
        swapIn(executor, tensorAt(state.slots, slot), uploadAll(executor, zeros));
      }
    },
    async resized(resized) {
      const next = { ...adapter, layers: withResized(adapter.layers, resized) };
      assertTrains(next);
      const carried = carriedTensors(adapter.layers, resized, await steps.atRest(), optimizer);
      const compileMs = steps.compileMs();
      await steps.close();
      return openSteps(runtime, next, settings, { ...carried, compileMs });
    },
    compileMs: () => start.compileMs + programs.compileMs(),
    async close() {
      for (const values of [state.adapter, ...Object.values(state.slots)]) releaseAll(executor, values);
      await programs.close();
    },
  };
  return steps;
}

/** @throws TrainingError for an adapter without a tensor to train. */
function assertTrains(adapter: Adapter): void {
  if (trainedTensors(allLayers(adapter)).length > 0) return;
  throw new TrainingError(
    `the ${adapter.method.name} adapter has nothing left to train: no module has a rank, and no head is trained; prune less, or train the head`,
    'adapter',
  );
}

type Programs = ReturnType<typeof openPrograms>;

/** The most programs that stay compiled: without named axes, each batch shape needs its own. */
const PROGRAMS = 32;

/** Returns the programs of a step; each is compiled when it is first needed. */
function openPrograms(runtime: Runtime, layers: AdapterLayers, adapted: number, settings: StepSettings) {
  const { executor, model } = runtime;
  const { gradientCheckpointing, largestBatch } = settings;
  const definition: StepDefinition = { model, layers, adapted, ...settings };
  const frozen = runtime.frozen(layers);
  const all = layerSpecs(layers);
  const tensors = trainedTensors(layers);
  const trained = tensorsAt(all, ...tensors.map(({ key }) => key));
  const groups = updateGroups(settings.optimizer, tensors);
  const state = { adapter: all, slots: slotSpecs(settings.optimizer, groups) };
  const sums = { loss: SCALAR, objective: SCALAR, gradients: trained };
  const opened = openedPrograms();
  const wholes = recentlyUsed<Program<StepInputs, StepOutputs>>(PROGRAMS, opened.end);
  const partials = recentlyUsed<Program<PartInputs, Gradients>>(PROGRAMS, opened.end);
  let ending: Program<EndInputs, StepOutputs> | undefined;

  const options = (): CompileOptions => ({
    gradientCheckpointing,
    ...(gradientCheckpointing === undefined && { largest: axisSizes(model, layers, largestBatch()) }),
  });
  const open = <I extends object, O extends object>(fn: (inputs: I) => O, specs: Specs<I>): Program<I, O> => {
    const program = openProgram(executor, fn, specs, {}, options);
    opened.add(program);
    return program;
  };
  return {
    /** The keys of the trained tensors. */
    keys: tensors.map(({ key }) => key),
    groups,
    /** The specs of the optimizer's slots, by group. */
    slots: state.slots,
    /** Runs a step on a single batch. */
    whole(held: StateOnDevice, part: StepPart, numbers: StepScalars) {
      const { optimizer, rates } = numbers;
      const { fed, specs } = fedPart(definition, part, numbers.scalars);
      const program = wholes.get(JSON.stringify(specs), () =>
        open<StepInputs, StepOutputs>((inputs) => trainStep(definition, inputs), {
          ...specs,
          ...state,
          frozen: frozen.specs,
          optimizer: mapValues(optimizer, specOf),
          rates: mapValues(rates, specOf),
        }),
      );
      return program.run({ ...fed, optimizer, rates }, { frozen: frozen.values, ...held });
    },
    /** Runs a step on several batches: adds up their gradients, and ends it with the sums. */
    async inParts(held: StateOnDevice, parts: readonly StepPart[], numbers: StepScalars) {
      let found = uploadedSums(executor, trained);
      try {
        for (const [index, share] of sharesOf(definition, parts).entries()) {
          const { fed, specs } = fedPart(definition, parts[index] as StepPart, numbers.scalars);
          const program = partials.get(JSON.stringify(specs), () =>
            open<PartInputs, Gradients>((inputs) => addPart(definition, inputs), {
              ...specs,
              frozen: frozen.specs,
              adapter: all,
              part: { share: SCALAR },
              sums,
            }),
          );
          const onDevice = { frozen: frozen.values, adapter: held.adapter, sums: found };
          const next = await program.run({ ...fed, part: { share: hostScalar(share) } }, onDevice);
          releaseSums(executor, found);
          found = next;
        }
        ending ??= open<EndInputs, StepOutputs>((inputs) => advance(definition, inputs, inputs.sums), {
          ...state,
          optimizer: mapValues(numbers.optimizer, specOf),
          rates: mapValues(numbers.rates, specOf),
          scalars: mapValues(numbers.scalars, specOf),
          sums,
        });
        return await ending.run(numbers, { ...held, sums: found });
      } finally {
        releaseSums(executor, found);
      }
    },
    compileMs: opened.compileMs,
    async close() {
      await opened.endAll();
      frozen.release();
    },
  };
}

/** Returns a part of a step as programs get it, and its specs. */
function fedPart({ model, layers }: StepDefinition, { batch, noise }: StepPart, controlled: HostTensors) {
  const { fed, specs } = fedBatch(model, layers, batch);
  const scalars = { ...controlled, ...noise };
  return { fed: { batch: fed, scalars }, specs: { batch: specs, scalars: mapValues(scalars, specOf) } };
}

/** What all programs have. */
type OpenedProgram = Pick<Program<object, object>, 'compileMs' | 'dispose'>;

/** Returns the list of a run's programs, which counts the compile time of those that have ended, too. */
function openedPrograms() {
  const programs = new Set<OpenedProgram>();
  let endedMs = 0;
  const end = (program: OpenedProgram): Promise<void> => {
    endedMs += program.compileMs();
    programs.delete(program);
    return program.dispose();
  };
  return {
    add: (program: OpenedProgram) => void programs.add(program),
    end,
    endAll: () => Promise.all([...programs].map(end)),
    compileMs: () => [...programs].reduce((sum, program) => sum + program.compileMs(), endedMs),
  };
}

const SCALAR: InputSpec = { dtype: 'float32', shape: [] };

function emptySlots({ slots }: Programs): Record<string, HostTensors> {
  return mapValues(slots, (slot) => mapValues(slot, ({ shape }) => hostZeros(shape)));
}

/** Returns each part's weight in the step; equal weights where no row counts. */
function sharesOf({ loss }: StepDefinition, parts: readonly StepPart[]): number[] {
  const weights = parts.map(({ batch }) => lossWeight(loss, batch));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return weights.map((weight) => (total === 0 ? 1 / parts.length : weight / total));
}

function uploadedSums(
  executor: Runtime['executor'],
  trained: Readonly<Record<string, TensorSpec>>,
): OnDevice<Gradients> {
  const zeros = mapValues(trained, ({ shape }) => hostZeros(shape));
  return {
    loss: executor.upload(hostScalar(0)),
    objective: executor.upload(hostScalar(0)),
    gradients: uploadAll(executor, zeros),
  };
}

function releaseSums(executor: Runtime['executor'], { loss, objective, gradients }: OnDevice<Gradients>): void {
  releaseAll(executor, { loss, objective, ...gradients });
}

/** Replaces values by new ones of the same names and releases the old ones. */
function swapIn(executor: Runtime['executor'], values: Values, next: Values): void {
  for (const [name, value] of Object.entries(next)) {
    executor.release(values[name]);
    values[name] = value;
  }
}

function reportOf(keys: readonly string[], { loss, objective, gradientNorms }: HostTensors): StepReport {
  const norms = gradientNorms ? floats(gradientNorms) : [];
  return {
    loss: loss?.data[0] ?? NaN,
    objective: objective?.data[0] ?? NaN,
    gradientNorms: Object.fromEntries(keys.map((key, index) => [key, norms[index] as number])),
  };
}

/** Returns the adapter's tensors and the optimizer's slots, those of resized layers with their new ranks. */
function carriedTensors(
  layers: AdapterLayers,
  resized: Readonly<Record<string, ResizedLayer>>,
  former: StateAtRest,
  optimizer: Optimizer,
): StateAtRest {
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
