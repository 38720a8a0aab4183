import { partName, peftScope, type ForwardTensors } from '../adapter/scope.js';
import { describe } from '../config.js';
import type { Executor, InputSpec } from '../contracts/executor.js';
import type { AdapterLayers } from '../contracts/layer.js';
import type { Model, Scope } from '../contracts/model.js';
import { ConfigError } from '../errors.js';
import { isQuantized, type QuantizedParts } from '../quantized.js';
import { specOf, type HostBytes, type HostTensor, type HostTensors, type Tensors } from '../tensors.js';
import { stepContext } from './context.js';
import { hostLookups, layerSpecs } from './inputs.js';
import { identityOf, leases, recentlyUsed, type Leases } from './leases.js';
import { openProgram, releaseAll, uploadAll, type Program, type Values } from './program.js';

/*
 * A runtime per model and executor, shared by training, evaluation, prediction, calibration and generation. It uploads
 * each frozen weight once and keeps the most recent passes compiled, so that a second call with the same layers
 * compiles nothing. It lives while it is in use. The one used last stays until another model is used, or until
 * `releaseRuntimes`.
 */

/**
 * A computation over the model's modules: named tensors in (including gathered rows of frozen embeddings), named
 * tensors out.
 */
export interface ForwardPass {
  /** Passes with the same name, layers and inputs share one program. */
  readonly name: string;
  /**
   * Whether the frozen weights become part of the program: takes more memory and is faster for batches of few rows.
   * Default false.
   */
  readonly holdsFrozen?: boolean;
  /** Computes the outputs. */
  compute(scope: Scope, inputs: Tensors): Tensors;
}

/** The inputs of a pass. */
export interface PassInputs extends ForwardTensors {
  /** Values kept from an earlier run, by name. */
  readonly cache: Tensors;
  /** Row masks of a mixed batch, by `rowsKey`. */
  readonly rows: Tensors;
}

/** The specs that differ between passes. */
type PassSpecs = Readonly<Record<'inputs' | 'cache' | 'rows', Readonly<Record<string, InputSpec>>>>;

/** The frozen weights that a forward pass reads, as an executor's values. */
interface FrozenValues {
  /** Their specs, by name. */
  readonly specs: Readonly<Record<string, InputSpec>>;
  /** The values, by name. */
  readonly values: Values;
  /** Releases weights that layers use instead of the model's own. */
  release(): void;
}

/** A model on an executor. */
export interface Runtime {
  /** The frozen network. */
  readonly model: Model;
  /** The executor that holds its weights. */
  readonly executor: Executor;
  /** Returns the frozen weights for these layers; uploads those that are missing. */
  frozen(layers: AdapterLayers): FrozenValues;
  /** Returns a pass with the layers acting, and the frozen weights that it reads; compiled once. */
  pass(layers: AdapterLayers, pass: ForwardPass, specs: PassSpecs): PreparedPass;
  /** Ends this use of the runtime. */
  close(): Promise<void>;
}

/** A pass that is ready to run. */
interface PreparedPass {
  /** The program. */
  readonly program: Program<PassInputs, Tensors>;
  /** The frozen weights to run it with. */
  readonly frozen: Values;
}

/**
 * Returns the runtime of a model on an executor; the caller closes it. @throws ConfigError for a value that is not an
 * executor.
 */
export function openRuntime(model: Model, executor: Executor): Runtime {
  assertExecutor(executor);
  const ofExecutor = runtimes.get(executor) ?? leases<Model, Shared>(IDLE, ({ dispose }) => dispose());
  runtimes.set(executor, ofExecutor);
  const { runtime } = ofExecutor.acquire(model, () => makeShared(model, executor));
  let isOpen = true;
  return {
    ...runtime,
    async close() {
      if (!isOpen) return;
      isOpen = false;
      await ofExecutor.release(model);
    },
  };
}

/** Runs `use` with a model's values, on the runtime shared per executor. */
export async function onRuntime<T>(
  { model, values: onHost }: { readonly model: Model; readonly values: HostTensors },
  executor: Executor,
  use: (runtime: Runtime, values: Values) => Promise<T>,
): Promise<T> {
  const runtime = openRuntime(model, executor);
  let values: Values = {};
  try {
    values = uploadAll(executor, onHost);
    return await use(runtime, values);
  } finally {
    releaseAll(executor, values);
    await runtime.close();
  }
}

/** Rejects values that cannot compile, e.g. an executor's factory or promise. @throws ConfigError for such a value. */
function assertExecutor(executor: Partial<Executor> | undefined): void {
  if (typeof executor?.compile === 'function') return;
  const given = executor instanceof Promise ? 'a promise: await it' : describe(executor);
  throw new ConfigError(`executor must come from an engine, e.g. compiled(), got ${given}`, 'executor');
}

/**
 * Frees what an executor holds for models that are not in use: weights on a device and compiled passes. They are
 * recreated when needed.
 * @param model the only model to free. Default: all of them.
 */
export async function releaseRuntimes(executor: Executor, model?: Model): Promise<void> {
  await runtimes.get(executor)?.clear(model);
}

/** The number of unused runtimes to keep per executor. */
const IDLE = 1;
/** The number of passes that a runtime keeps compiled. */
const PASSES = 8;

/** What the users of a model on an executor share. */
interface Shared {
  readonly runtime: Omit<Runtime, 'close'>;
  dispose(): Promise<void>;
}

const runtimes = new WeakMap<Executor, Leases<Model, Shared>>();

function makeShared(model: Model, executor: Executor): Shared {
  const weights = new Map<string, HeldWeight>();
  const passes = recentlyUsed<PreparedPass & { dispose(): Promise<void> }>(PASSES, ({ dispose }) => dispose());

  const frozen = (layers: AdapterLayers): FrozenValues => {
    const own: HeldWeight[] = [];
    const read: HeldWeight[] = [];
    for (const [name, weight] of Object.entries(frozenWeights(model, layers))) {
      const isShared = model.weights[name] === weight;
      const held = (isShared && weights.get(name)) || uploaded(executor, name, weight);
      if (isShared) weights.set(name, held);
      else own.push(held);
      read.push(held);
    }
    const specs = Object.assign({}, ...read.map((held) => held.specs)) as FrozenValues['specs'];
    const values = Object.assign({}, ...read.map((held) => held.values)) as Values;
    return { specs, values, release: () => own.forEach((held) => releaseAll(executor, held.values)) };
  };

  const pass: Runtime['pass'] = (layers, pass, open) => {
    const own = Object.entries(layers).map(([path, layer]) => `${path} ${identityOf(layer)}`); // never modified
    const key = JSON.stringify([pass.name, pass.holdsFrozen, open, own.sort()]);
    return passes.get(key, () => {
      const held = frozen(layers);
      const program = openProgram(
        executor,
        ({ inputs, cache, rows, ...tensors }: PassInputs) => {
          const all = { ...inputs, ...cache };
          const scope = peftScope(model, layers, { ...tensors, inputs: all }, stepContext(rows, 0, false));
          return pass.compute(scope, all);
        },
        { ...open, frozen: held.specs, adapter: layerSpecs(layers) },
        pass.holdsFrozen ? { frozen: held.values } : {},
      );
      return {
        program,
        frozen: held.values,
        async dispose() {
          await program.dispose();
          held.release();
        },
      };
    });
  };

  return {
    runtime: { model, executor, frozen, pass },
    async dispose() {
      await passes.clear();
      for (const { values } of weights.values()) releaseAll(executor, values);
      weights.clear();
    },
  };
}

/**
 * Returns the frozen weights that a forward pass can read, with layers' `frozenWeight`s in place of the model's. Tables
 * gathered on the host and modules trained in full are left out.
 */
export function frozenWeights(model: Model, layers: AdapterLayers): HostTensors {
  const replaced = Object.values(layers).filter(({ replacesModule }) => replacesModule);
  const outside = [...hostLookups(model, layers).map(({ site }) => site), ...replaced.map(({ site }) => site.path)];
  const names = new Set(outside.flatMap((path) => [`${path}.weight`, `${path}.bias`]));
  const weights = Object.fromEntries(Object.entries(model.weights).filter(([name]) => !names.has(name)));
  for (const { site, frozenWeight } of Object.values(layers)) {
    if (frozenWeight) weights[`${site.path}.weight`] = frozenWeight;
  }
  return weights;
}

/** A frozen weight on an executor: one tensor, or the parts of a quantized one. */
type HeldWeight = Pick<FrozenValues, 'specs' | 'values'>;

/**
 * Uploads a frozen weight. One in few bits is its parts (named by `partName`), or float32 where the executor does not
 * take bytes.
 */
function uploaded(executor: Executor, name: string, weight: HostTensor): HeldWeight {
  if (!isQuantized(weight) || !executor.uploadBytes) {
    const { dtype, shape, data } = weight;
    return { specs: { [name]: { dtype, shape } }, values: { [name]: executor.upload({ dtype, shape, data }) } };
  }
  const parts = Object.entries(weight.parts) as [keyof QuantizedParts, HostTensor | HostBytes][];
  const named = parts.map(([part, tensor]) => [partName(name, part), tensor] as const);
  return {
    specs: Object.fromEntries(named.map(([key, tensor]) => [key, specOf(tensor)])),
    values: Object.fromEntries(
      named.map(([key, tensor]) => [key, isBytes(tensor) ? executor.uploadBytes?.(tensor) : executor.upload(tensor)]),
    ),
  };
}

function isBytes(tensor: HostTensor | HostBytes): tensor is HostBytes {
  return tensor.dtype === 'int8' || tensor.dtype === 'uint8';
}
