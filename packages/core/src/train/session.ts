import { peftScope } from '../adapter/scope.js';
import { allLayers, type Adapter } from '../adapter/peft-model.js';
import type { Executor } from '../contracts/executor.js';
import type { Batch, Model, Scope } from '../contracts/model.js';
import {
  mapValues,
  type HostBytes,
  type HostTensor,
  type HostTensors,
  type Tensors,
  type TensorSpec,
} from '../tensors.js';
import { cachingCompiler } from './compiler.js';
import { frozenWeights, heldWeights, layerSpecs, modelInputs, specsOf } from './feeds.js';
import { flatten, unflatten, type Groups } from './groups.js';
import { stepContext, type StepDefinition } from './step.js';
import { takeStep, type StepPart } from './stepping.js';

/** Values of an executor by name. */
export type Values = Record<string, unknown>;

/** What a training run carries from step to step, as values of its executor. */
export interface TrainingState {
  adapter: Values;
  moment1: Values;
  moment2: Values;
}

/** How the model is trained, apart from the model and its adapter. */
export type StepSettings = Pick<StepDefinition, 'objective' | 'optimizer' | 'clipNorm' | 'unclippedGroups'>;

/** What one step reports. */
export interface StepReport {
  /** The mean loss on the data alone. */
  readonly loss: number;
  /** What is minimised: `loss` and the terms that the method adds. */
  readonly objective: number;
  /** Norm of each trained tensor's gradient before clipping, by name. */
  readonly gradientNorms: Readonly<Record<string, number>>;
}

/** A way through the model's modules: named tensors in, the rows of frozen embeddings among them, and named tensors out. */
export interface Pass {
  /** Passes of one name and inputs of the same shapes are compiled once. */
  readonly name: string;
  compute(scope: Scope, inputs: Tensors): Tensors;
}

/** Inputs of a pass that are the executor's already, e.g. what the pass before it gave, and their shapes. */
export interface Carried {
  readonly values: Values;
  readonly specs: Readonly<Record<string, TensorSpec>>;
}

/**
 * A model with one set of layers on an executor: frozen weights uploaded once, functions compiled once for each shape of
 * batch. What it holds is given up by `dispose`.
 */
export interface Session {
  readonly executor: Executor;
  /** Milliseconds spent compiling so far. */
  compileMs(): number;
  upload(tensors: HostTensors): Values;
  download(values: Values): Promise<HostTensors>;
  release(values: Values): void;
  /**
   * One pass with the layers acting. The caller owns the values that come back; those that are carried stay untouched.
   * `rows`: whose rows they are, where adapters share the batch.
   */
  run(
    pass: Pass,
    adapter: Values,
    inputs: HostTensors,
    more?: { carried?: Carried; rows?: HostTensors },
  ): Promise<Values>;
  /** Outputs `[batch, classes]` of a batch. `rows`: whose rows they are, where adapters share the batch. */
  predict(adapter: Values, batch: Batch, rows?: HostTensors): Promise<HostTensor>;
  /** One training step on the batches of `parts`, as if they were one; `state` moves on to the new values. */
  step(
    settings: StepSettings,
    state: TrainingState,
    parts: readonly StepPart[],
    scalars: HostTensors,
  ): Promise<StepReport>;
  dispose(): Promise<void>;
}

const NOTHING: Carried = { values: {}, specs: {} };

/** Opens a session. */
export function openSession(model: Model, parts: Pick<Adapter, 'layers' | 'saved'>, executor: Executor): Session {
  const layers = allLayers(parts);
  const frozenAtRest = heldWeights(frozenWeights(model, layers), executor.uploadBytes !== undefined);
  const specs = { ...layerSpecs(layers), frozen: specsOf(frozenAtRest) };
  const compiler = cachingCompiler(executor);
  const { upload, download, release } = transfers(executor);
  const frozen = mapValues(frozenAtRest, (tensor) => uploaded(executor, tensor));
  const adapted = Object.keys(parts.layers).length;
  const stepping = { model, layers, adapted, compiler, frozen, specs, upload, download, release };

  const run: Session['run'] = async ({ name, compute }, adapter, given, { carried = NOTHING, rows = {} } = {}) => {
    const inputs = modelInputs(model, layers, { inputs: given });
    const shapes: Groups<TensorSpec> = {
      inputs: { ...specsOf(inputs), ...carried.specs },
      scalars: specsOf(rows),
      frozen: specs.frozen,
      adapter: specs.all,
    };
    const compiled = await compiler.get(name, shapes, (flat) => {
      const { scalars, ...tensors } = unflatten(flat, ['inputs', 'scalars', 'frozen', 'adapter']);
      return compute(peftScope(layers, tensors, stepContext(scalars, 0, false)), tensors.inputs);
    });
    const fed = { inputs: upload(inputs), scalars: upload(rows) };
    const result = await compiled.run(
      flatten<unknown>({ ...fed, inputs: { ...fed.inputs, ...carried.values }, frozen, adapter }),
    );
    release(flatten<unknown>(fed));
    return result;
  };

  return {
    executor,
    compileMs: compiler.milliseconds,
    upload,
    download,
    release,
    run,
    async predict(adapter, { inputs }, rows = {}) {
      const result = await run(prediction(model), adapter, inputs, { rows });
      const { outputs } = await download(result);
      release(result);
      return outputs as HostTensor;
    },
    step: (settings, state, batches, scalars) => takeStep(stepping, settings, state, batches, scalars),
    async dispose() {
      release(frozen);
      await compiler.dispose();
    },
  };
}

/** What the model gives. */
function prediction(model: Model): Pass {
  return { name: 'predict', compute: (scope, inputs) => ({ outputs: model.forward(scope, inputs) }) };
}

function uploaded(executor: Executor, tensor: HostTensor | HostBytes): unknown {
  return tensor.dtype === 'int8' ? executor.uploadBytes?.(tensor) : executor.upload(tensor);
}

function transfers(executor: Executor): Pick<Session, 'upload' | 'download' | 'release'> {
  return {
    upload: (tensors) => mapValues(tensors, (tensor) => executor.upload(tensor)),
    async download(values) {
      const tensors: HostTensors = {};
      for (const [name, value] of Object.entries(values)) tensors[name] = await executor.download(value);
      return tensors;
    },
    release(values) {
      for (const value of Object.values(values)) if (value !== undefined) executor.release(value);
    },
  };
}
