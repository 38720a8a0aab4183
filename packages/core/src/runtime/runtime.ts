import { peftScope, scaleOf } from '../adapter/scope.js';
import { describe } from '../config.js';
import type { Executor, InputSpec } from '../contracts/executor.js';
import type { AdapterLayers } from '../contracts/method.js';
import type { Model, Scope } from '../contracts/model.js';
import { ConfigError } from '../errors.js';
import { isQuantized } from '../quantized.js';
import { hostTensor, specOf, type HostBytes, type HostTensor, type HostTensors, type Tensors } from '../tensors.js';
import { stepContext } from './context.js';
import { hostLookups, layerSpecs } from './inputs.js';
import { openProgram, releaseAll, type Program, type Values } from './program.js';

/*
 * One runtime per model and executor: what training, evaluation, prediction, calibration and generation share. It uploads each
 * frozen weight once, and keeps the passes that were prepared last, so that a second call with the same layers compiles nothing.
 * It lives while somebody uses it, and the one used last lives on until another model is used, or `releaseRuntimes`.
 */

/** A way through the model's modules: named tensors in, the rows of frozen embeddings among them, and named tensors out. */
export interface Pass {
  /** Passes of one name, with the same layers and inputs, are one program. */
  readonly name: string;
  /** Whether the frozen weights become part of the program: more memory, and faster for batches of few rows. */
  readonly holdsFrozen?: boolean;
  compute(scope: Scope, inputs: Tensors): Tensors;
}

/** What a pass is given: fed inputs, values kept from a run before, whose rows are whose, and what acts on the model. */
export interface PassInputs {
  readonly inputs: Tensors;
  readonly kept: Tensors;
  readonly rows: Tensors;
  readonly frozen: Tensors;
  readonly adapter: Tensors;
}

/** The specs of what differs between passes. */
export type PassSpecs = Readonly<Record<'inputs' | 'kept' | 'rows', Readonly<Record<string, InputSpec>>>>;

/** The frozen weights that a forward pass reads, as an executor holds them. */
export interface FrozenValues {
  readonly specs: Readonly<Record<string, InputSpec>>;
  readonly values: Values;
  /** Gives up those that layers put in the place of the model's own. */
  release(): void;
}

/** A model on an executor. */
export interface Runtime {
  readonly model: Model;
  readonly executor: Executor;
  /** Uploads what is not there yet. */
  frozen(layers: AdapterLayers): FrozenValues;
  /** A pass with the layers acting, and the frozen weights that it runs on; prepared once. */
  pass(layers: AdapterLayers, pass: Pass, specs: PassSpecs): ReadyPass;
  /** Ends this use of it. */
  close(): Promise<void>;
}

/** A pass that is prepared. */
export interface ReadyPass {
  readonly program: Program<PassInputs, Tensors>;
  readonly frozen: Values;
}

/** The runtime of a model on an executor; the caller closes it. @throws ConfigError for something that is no executor. */
export function openRuntime(model: Model, executor: Executor): Runtime {
  assertExecutor(executor);
  const ofExecutor = runtimes.get(executor) ?? new Map<Model, Shared>();
  runtimes.set(executor, ofExecutor);
  const shared = ofExecutor.get(model) ?? makeShared(model, executor);
  ofExecutor.delete(model);
  ofExecutor.set(model, shared); // used last, stands last
  shared.users++;
  let isOpen = true;
  return {
    ...shared.runtime,
    async close() {
      if (!isOpen) return;
      isOpen = false;
      shared.users--;
      await giveUpIdle(ofExecutor, IDLE);
    },
  };
}

/** @throws ConfigError for what does not compile, such as the function that makes an executor, or its promise. */
function assertExecutor(executor: Partial<Executor> | undefined): void {
  if (typeof executor?.compile === 'function') return;
  const given = executor instanceof Promise ? 'a promise: await it' : describe(executor);
  throw new ConfigError(`executor must be what an engine makes, e.g. compiled(), got ${given}`, 'executor');
}

/**
 * Gives up what an executor holds for models that nobody uses at the moment: weights on a device, prepared passes. It all comes
 * back when it is needed.
 * @param model the only one to give up. Default: all of them.
 */
export async function releaseRuntimes(executor: Executor, model?: Model): Promise<void> {
  const ofExecutor = runtimes.get(executor);
  if (ofExecutor) await giveUpIdle(ofExecutor, 0, model);
}

/** Runtimes of an executor that stay although nobody uses them. */
const IDLE = 1;
/** Passes that a runtime keeps prepared. */
const PASSES = 8;

/** A runtime, and how many use it. */
interface Shared {
  readonly runtime: Omit<Runtime, 'close'>;
  users: number;
  dispose(): Promise<void>;
}

const runtimes = new WeakMap<Executor, Map<Model, Shared>>();

async function giveUpIdle(ofExecutor: Map<Model, Shared>, kept: number, only?: Model): Promise<void> {
  const idle = [...ofExecutor].filter(([model, { users }]) => users === 0 && (only === undefined || model === only));
  const surplus = idle.slice(0, Math.max(0, idle.length - kept));
  for (const [model] of surplus) ofExecutor.delete(model);
  for (const [, { dispose }] of surplus) await dispose();
}

function makeShared(model: Model, executor: Executor): Shared {
  const weights = new Map<HostTensor, Values>();
  const passes: KeptPass[] = []; // used last, stands last

  const frozen = (layers: AdapterLayers): FrozenValues => {
    const own: Values[] = [];
    const values: Values = {};
    const specs: Record<string, InputSpec> = {};
    for (const [name, weight] of Object.entries(frozenWeights(model, layers))) {
      const held = heldWeight(name, weight, executor.uploadBytes !== undefined);
      const isModels = model.weights[name] === weight;
      const uploaded = weights.get(weight) ?? uploadHeld(executor, held);
      if (isModels) weights.set(weight, uploaded);
      else own.push(uploaded);
      Object.assign(values, uploaded);
      for (const [key, tensor] of Object.entries(held)) specs[key] = specOf(tensor);
    }
    return { specs, values, release: () => own.forEach((each) => releaseAll(executor, each)) };
  };

  const pass: Runtime['pass'] = (layers, pass, open) => {
    const signature = JSON.stringify([pass.name, pass.holdsFrozen, open]);
    const at = passes.findIndex((kept) => kept.signature === signature && sameLayers(kept.layers, layers));
    const [found] = at < 0 ? [] : passes.splice(at, 1);
    const ready = found ?? preparePass(executor, model, { signature, layers, pass, open, frozen: frozen(layers) });
    passes.push(ready);
    // No caller awaits this release, so an error would be an unhandled rejection.
    if (passes.length > PASSES)
      passes
        .shift()
        ?.dispose()
        .catch(() => undefined);
    return ready;
  };

  return {
    users: 0,
    runtime: { model, executor, frozen, pass },
    async dispose() {
      for (const each of passes.splice(0)) await each.dispose();
      for (const uploaded of weights.values()) releaseAll(executor, uploaded);
      weights.clear();
    },
  };
}

interface KeptPass extends ReadyPass {
  readonly signature: string;
  readonly layers: AdapterLayers;
  dispose(): Promise<void>;
}

function preparePass(
  executor: Executor,
  model: Model,
  given: Pick<KeptPass, 'signature' | 'layers'> & {
    readonly pass: Pass;
    readonly open: PassSpecs;
    readonly frozen: FrozenValues;
  },
): KeptPass {
  const { signature, layers, pass, open, frozen } = given;
  const program = openProgram(
    executor,
    ({ inputs, kept, rows, ...tensors }: PassInputs) => {
      const all = { ...inputs, ...kept };
      return pass.compute(peftScope(model, layers, { ...tensors, inputs: all }, stepContext(rows, 0, false)), all);
    },
    { ...open, frozen: frozen.specs, adapter: layerSpecs(layers).all },
    pass.holdsFrozen ? { frozen: frozen.values } : {},
  );
  return {
    signature,
    layers,
    program,
    frozen: frozen.values,
    async dispose() {
      await program.dispose();
      frozen.release();
    },
  };
}

/** Whether two records hold the same layers: they are made once and never changed. */
function sameLayers(a: AdapterLayers, b: AdapterLayers): boolean {
  const paths = Object.keys(a);
  return paths.length === Object.keys(b).length && paths.every((path) => a[path] === b[path]);
}

/**
 * The frozen weights that a forward pass can ask for: no table that is looked up on the host, no module trained whole, and
 * in the place of a weight what its layer puts there.
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

/**
 * A frozen weight as an executor holds it. One in 8 bits is its bytes and, as `scaleOf` its name, its scales; written out as
 * float32 where the executor takes no bytes.
 */
function heldWeight(name: string, weight: HostTensor, takesBytes: boolean): Record<string, HostTensor | HostBytes> {
  if (!isQuantized(weight)) return { [name]: weight };
  const { dtype, shape, values, scale } = weight;
  if (!takesBytes) return { [name]: { dtype, shape, data: weight.data } };
  return { [name]: { dtype: 'int8', shape, data: values }, [scaleOf(name)]: hostTensor(scale, [scale.length]) };
}

function uploadHeld(executor: Executor, held: Readonly<Record<string, HostTensor | HostBytes>>): Values {
  const entries = Object.entries(held).map(([name, tensor]) => [
    name,
    tensor.dtype === 'int8' ? executor.uploadBytes?.(tensor) : executor.upload(tensor),
  ]);
  return Object.fromEntries(entries) as Values;
}
