import type { InputSpec } from '../contracts/executor.js';
import type { Batch } from '../contracts/model.js';
import { allLayers, type Adapter } from '../adapter/peft-model.js';
import { TrainingError } from '../errors.js';
import { lossWeight } from '../losses/loss.js';
import type { Optimizer } from '../optimizers/optimizer.js';
import { mapValues } from '../tensors.js';
import { layerSpecs, modelInputs, openSpecs, sizesOf } from '../runtime/inputs.js';
import {
  downloadAll,
  openProgram,
  recentlyUsed,
  releaseAll,
  uploadAll,
  type Held,
  type Program,
  type Values,
} from '../runtime/program.js';
import type { Runtime } from '../runtime/runtime.js';
import {
  floats,
  hostScalar,
  hostZeros,
  sizeOf,
  specOf,
  tensorAt,
  type HostTensors,
  type TensorSpec,
} from '../tensors.js';
import {
  addPart,
  advance,
  trainedTensors,
  trainStep,
  type EndInputs,
  type Gradients,
  type PartInputs,
  type StepDefinition,
  type StepInputs,
  type StepOutputs,
} from './step.js';

/** What a training run carries from step to step, as values of its executor. */
export interface TrainingState {
  readonly adapter: Values;
  /** The optimizer's slots, each by the keys of the trained tensors. */
  readonly slots: Readonly<Record<string, Values>>;
}

/** A batch of a training step, or one of several that make one up, with random numbers of its own. */
export interface StepPart {
  readonly batch: Batch;
  /** As `drawNoise` gives it. */
  readonly noise: HostTensors;
}

/** The numbers of one step. */
export interface StepScalars {
  /** The optimizer's own. */
  readonly optimizer: HostTensors;
  /** Learning rates by group. */
  readonly rates: HostTensors;
  /** The controller's. */
  readonly scalars: HostTensors;
}

/** What one step reports. */
export interface StepReport {
  /** The mean loss on the data alone. */
  readonly loss: number;
  /** What is minimised: `loss` and the terms that the method adds. */
  readonly objective: number;
  /** Norm of each trained tensor's gradient before clipping, by name. */
  readonly gradientNorms: Readonly<Record<string, number>>;
}

/** Training steps of an adapter with one set of layers. */
export interface Steps {
  /** One step on the batches of `parts`, as if they were one. Changes `state` in place. */
  take(state: TrainingState, parts: readonly StepPart[], scalars: StepScalars): Promise<StepReport>;
  /** Milliseconds spent compiling so far. */
  compileMs(): number;
  close(): Promise<void>;
}

/** How an adapter is trained, apart from the model and its layers. */
export type StepSettings = Pick<StepDefinition, 'loss' | 'optimizer' | 'clipNorm' | 'unclippedGroups'>;

/** Programs that stay compiled at once, where batches name no axes and each of their shapes needs its own. */
const PROGRAMS = 32;

/** The steps of an adapter; the caller closes them. */
export function openSteps(runtime: Runtime, adapter: Pick<Adapter, 'layers' | 'saved'>, settings: StepSettings): Steps {
  const { executor, model } = runtime;
  const layers = allLayers(adapter);
  const definition: StepDefinition = { model, layers, adapted: Object.keys(adapter.layers).length, ...settings };
  const frozen = runtime.frozen(layers);
  const specs = layerSpecs(layers);
  const state = { adapter: specs.all, slots: slotSpecs(settings.optimizer, specs.trained) };
  const sums = { loss: SCALAR, objective: SCALAR, gradients: specs.trained };
  const keys = trainedTensors(layers).map(({ key }) => key);
  const opened: Opened[] = [];
  const whole = recentlyUsed<Program<StepInputs, StepOutputs>>(PROGRAMS, (program) => program.dispose());
  const partial = recentlyUsed<Program<PartInputs, Gradients>>(PROGRAMS, (program) => program.dispose());
  let ending: Program<EndInputs, StepOutputs> | undefined;

  const open = <I extends object, O extends object>(...[fn, specs]: OpenArguments<I, O>): Program<I, O> => {
    const program = openProgram(executor, fn, specs);
    opened.push(program);
    return program;
  };
  const fedBatch = ({ batch, noise }: StepPart, scalars: HostTensors) => {
    const { labels, rowWeights } = batch;
    const { inputs, ...labelled } = { inputs: modelInputs(model, layers, batch), labels, rowWeights };
    const sizes = sizesOf(batch);
    return {
      fed: { batch: { inputs, ...labelled }, scalars: { ...scalars, ...noise } },
      specs: {
        batch: { inputs: openSpecs(inputs, sizes, model.axes), ...openLabels(labelled, sizes) },
        scalars: mapValues({ ...scalars, ...noise }, specOf),
      },
    };
  };
  const wholeStep = async (at: TrainingState, part: StepPart, numbers: StepScalars): Promise<Held<StepOutputs>> => {
    const { fed, specs: ofBatch } = fedBatch(part, numbers.scalars);
    const { optimizer, rates } = mapScalars(numbers);
    const program = whole.get(JSON.stringify(ofBatch), () =>
      open((inputs: StepInputs) => trainStep(definition, inputs), {
        ...ofBatch,
        frozen: frozen.specs,
        ...state,
        optimizer,
        rates,
      }),
    );
    const held = { frozen: frozen.values, ...at };
    return program.run({ ...fed, optimizer: numbers.optimizer, rates: numbers.rates }, held);
  };
  const stepInParts = async (
    at: TrainingState,
    parts: readonly StepPart[],
    numbers: StepScalars,
  ): Promise<Held<StepOutputs>> => {
    let found: Held<Gradients> = uploadedSums(executor, specs.trained);
    for (const [index, share] of sharesOf(definition, parts).entries()) {
      const { fed, specs: ofBatch } = fedBatch(parts[index] as StepPart, numbers.scalars);
      const program = partial.get(JSON.stringify(ofBatch), () =>
        open((inputs: PartInputs) => addPart(definition, inputs), {
          ...ofBatch,
          frozen: frozen.specs,
          adapter: specs.all,
          part: { share: SCALAR },
          sums,
        }),
      );
      const held = { frozen: frozen.values, adapter: at.adapter, sums: found };
      const next = await program.run({ ...fed, part: { share: hostScalar(share) } }, held);
      releaseSums(executor, found);
      found = next;
    }
    ending ??= open((inputs: EndInputs) => advance(definition, inputs, inputs.sums), {
      ...state,
      ...mapScalars(numbers),
      sums,
    });
    const result = await ending.run(numbers, { ...at, sums: found });
    releaseSums(executor, found);
    return result;
  };

  return {
    compileMs: () => opened.reduce((sum, program) => sum + program.compileMs(), 0),
    async take(at, parts, numbers) {
      const [first, ...others] = parts;
      if (!first) throw new TrainingError('a step needs a batch');
      const next = others.length === 0 ? await wholeStep(at, first, numbers) : await stepInParts(at, parts, numbers);
      moveOn(executor, at.adapter, next.adapter);
      for (const [slot, values] of Object.entries(next.slots)) moveOn(executor, tensorAt(at.slots, slot), values);
      const report = await downloadAll(executor, next.report);
      releaseAll(executor, next.report);
      return reportOf(keys, report);
    },
    async close() {
      for (const program of opened) await program.dispose();
      frozen.release();
    },
  };
}

type Opened = Pick<Program<object, object>, 'compileMs' | 'dispose'>;

type OpenArguments<I extends object, O extends object> =
  Parameters<typeof openProgram<I, O>> extends [unknown, ...infer Rest] ? Rest : never;

const SCALAR: InputSpec = { dtype: 'float32', shape: [] };

/** Specs of an optimizer's slots, by slot and then by those trained tensors that have it. */
export function slotSpecs(
  { slots }: Optimizer,
  trained: Readonly<Record<string, TensorSpec>>,
): Record<string, Record<string, TensorSpec>> {
  return mapValues(slots, ({ shape: shapeOf }) => {
    const specs: Record<string, TensorSpec> = {};
    for (const [key, { dtype, shape }] of Object.entries(trained)) {
      const own = shapeOf ? shapeOf(shape) : shape;
      if (own) specs[key] = { dtype, shape: own };
    }
    return specs;
  });
}

function mapScalars(numbers: StepScalars): { [K in keyof StepScalars]: Record<string, InputSpec> } {
  return {
    optimizer: mapValues(numbers.optimizer, specOf),
    rates: mapValues(numbers.rates, specOf),
    scalars: mapValues(numbers.scalars, specOf),
  };
}

function openLabels(
  labelled: Pick<Batch, 'labels' | 'rowWeights'>,
  sizes: ReturnType<typeof sizesOf>,
): Record<'labels' | 'rowWeights', InputSpec> {
  return openSpecs({ ...labelled }, sizes) as Record<'labels' | 'rowWeights', InputSpec>;
}

/** What each part counts in the whole; all of them alike where nothing counts. */
function sharesOf({ loss }: StepDefinition, parts: readonly StepPart[]): number[] {
  const weights = parts.map(({ batch }) => lossWeight(loss, batch));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return weights.map((weight) => (total === 0 ? 1 / parts.length : weight / total));
}

function uploadedSums(executor: Runtime['executor'], trained: Readonly<Record<string, TensorSpec>>): Held<Gradients> {
  const zeros = mapValues(trained, ({ shape }) => hostZeros(shape));
  return {
    loss: executor.upload(hostScalar(0)),
    objective: executor.upload(hostScalar(0)),
    gradients: uploadAll(executor, zeros),
  };
}

function releaseSums(executor: Runtime['executor'], { loss, objective, gradients }: Held<Gradients>): void {
  releaseAll(executor, { loss, objective, ...gradients });
}

/** Puts new values in the place of those of the same names. */
function moveOn(executor: Runtime['executor'], values: Values, next: Values): void {
  for (const [name, value] of Object.entries(next)) {
    executor.release(values[name]);
    values[name] = value;
  }
}

function reportOf(keys: readonly string[], { loss, objective, gradientNorms }: HostTensors): StepReport {
  const norms = floats(tensorAt({ gradientNorms }, 'gradientNorms') as HostTensors[string]);
  return {
    loss: loss?.data[0] ?? NaN,
    objective: objective?.data[0] ?? NaN,
    gradientNorms: Object.fromEntries(keys.map((key, index) => [key, norms[index] as number])),
  };
}
