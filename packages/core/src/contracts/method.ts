import type { Scalar, Tensor } from '@tensorflow/tfjs';
import type { CarriedKind } from '../optimizers/optimizer.js';
import type { Rng } from '../rng.js';
import type { HostTensor, HostTensors, Tensors } from '../tensors.js';
import type { Site, SiteKind } from './site.js';

/** What a method can do: the conformance suite skips by it, shared code asks it. */
export interface Capabilities {
  /** The trained layer folds into the frozen weight. */
  readonly mergeable: boolean;
  /** The untrained layer leaves the output unchanged. */
  readonly identityAtInit: boolean;
  /** Ranks change while training. */
  readonly adaptsRank: boolean;
  readonly kinds: readonly SiteKind[];
}

/**
 * Which modules a method acts on, by PEFT's rules: a list holds exact paths or dotted suffixes, a string is a regular
 * expression for the whole path, `all-linear` is every linear module but the head.
 */
export interface TargetConfig {
  /** Default: the model's own table. */
  readonly targetModules: string | readonly string[] | null;
  /** Modules that are left as they are, named in the same ways. Default: none. */
  readonly excludeModules: string | readonly string[] | null;
  /** Index or indices of the layers to keep; only with a list of targets. */
  readonly layersToTransform: number | readonly number[] | null;
  /** What the list of these layers is called in the paths. Default: the first number after a dotted name is the index. */
  readonly layersPattern?: string | readonly string[] | null;
  /**
   * Modules trained whole and saved with the adapter, by PEFT's rule: all whose path, or that of one they are part of, ends in a name,
   * so that 'norm' is every norm of a Llama. The head is one unnamed.
   */
  readonly modulesToSave: readonly string[] | null;
  /**
   * Tokens whose rows of the table of words are trained while its other rows stay frozen, or tokens by the end of a table's path.
   * Where the head of a language model has the same table, it has the same rows, unless it is named with tokens of its own.
   */
  readonly trainableTokenIndices?: readonly number[] | Readonly<Record<string, readonly number[]>> | null;
  /** Whether a table trained whole by `modulesToSave` stays the head of a language model where it is that; else only one changes. */
  readonly ensureWeightTying?: boolean;
}

/** The contract of a method of parameter-efficient fine-tuning. Make one with `defineMethod`. */
export interface PeftMethod<C extends TargetConfig = TargetConfig> {
  /** Command-line name; in capitals it is the `peft_type` on disk. */
  readonly name: string;
  readonly capabilities: Capabilities;
  /** The peak learning rate (AdamW) that a command trains with when the user names none. Default 1e-3. */
  readonly defaultLearningRate?: number;
  /** Fills in defaults. @throws ConfigError naming the field. */
  parseConfig(input: unknown): C;
  /** What the initial values of this configuration are computed from besides the weights; null for nothing. */
  calibration?(config: C): CalibrationKind | null;
  /**
   * The configuration that has `budget` parameters over these sites, head left out: that stores so many in the end, or, matched on
   * `'trained'`, that trains so many from the start. The two differ for a method that gives ranks up while it trains.
   * @throws ConfigError for a budget that is too small for one module, or that the sites cannot hold.
   */
  fitBudget?(sites: readonly Site[], budget: number, config: C, matchOn?: MatchOn): C;
  /**
   * The configuration at one level, 0 or more, of the sparsifying schedule (`sparsify`): the higher, the fewer ranks live. The layers
   * stay those of the first configuration: a level acts through `controller`, which is made anew for each, so that `adapt` must give
   * the same layers at every level.
   * @throws ConfigError when the configuration sets its own levels.
   */
  atSparsity?(config: C, level: number): C;
  /**
   * For a configuration that leaves its size to training: the configurations of the stages that find it. Null for any other. As with
   * `atSparsity`, the layers stay those of the first.
   */
  sizing?(config: C): SizeStages<C> | null;
  /** One layer per adapted site; all sites at once, for shared tensors, uneven ranks and placement by role. */
  adapt(sites: readonly Site[], config: C, init: Init): AdapterLayers;
  /** What acts between steps, made anew for every training run; undefined where this configuration needs nothing. */
  controller?(layers: AdapterLayers, config: C, plan: TrainPlan): Controller | undefined;
  /** Where training resizes layers: the layers that values of a later step, or of a file, fit, made from those of the first. */
  resumedLayers?(adapter: AdapterContents<C>): AdapterLayers;
  /** The `peft_type`s on disk that this method reads. */
  readonly peftTypes: readonly string[];
  /** The adapter as files hold it. `pruned: false` keeps what only further training needs. */
  toFile(adapter: AdapterContents<C>, options: { pruned: boolean }): AdapterFile;
  /** Configuration and values from what a file holds. @throws CheckpointError naming the tensor. */
  fromFile(file: AdapterFile): { config: Partial<C>; values: HostTensors };
}

/** The configuration of a stage: held to so many stored parameters in the end, or, for null, to the ranks that are alive. */
export type SizeStages<C extends TargetConfig = TargetConfig> = (budget: number | null) => C;

/** Which parameters a budget counts: those stored in the end, or those trained at the start. */
export type MatchOn = 'stored' | 'trained';

/** A method as its package exports it: called with options it is ready for `attach`. */
export interface CallableMethod<C extends TargetConfig = TargetConfig> extends PeftMethod<C> {
  (options?: Partial<C>): ConfiguredMethod<C>;
}

/** A method with its configuration, ready to be attached. */
export interface ConfiguredMethod<C extends TargetConfig = TargetConfig> {
  readonly method: PeftMethod<C>;
  readonly config: C;
}

/** An adapter's parts: `values` holds every tensor of every layer by `<path>.<name>`, shared ones by their name. */
export interface AdapterContents<C extends TargetConfig = TargetConfig> {
  readonly config: C;
  readonly layers: AdapterLayers;
  readonly values: HostTensors;
}

/** An adapter in PEFT's format, without the head and the key prefix. */
export interface AdapterFile {
  /** The method's part of adapter_config.json, in PEFT's names. */
  readonly config: Readonly<Record<string, unknown>>;
  /** Tensors by `<path>.<suffix>`, e.g. `encoder.layer.0.ffn.in.lora_A.weight`, or a name without a dot; oriented as torch holds them. */
  readonly tensors: HostTensors;
  /** The modules of the model that a file is read for; every tensor whose name has a dot belongs to one of them. */
  readonly sites?: readonly Site[];
}

/** What a method may look at when it makes its layers. */
export interface Init {
  /** A stream of its own; fork it by module path. */
  readonly rng: Rng;
  /** Every module of the model but those trained whole: what is trained beside the adapted ones, e.g. biases, is among them. */
  readonly sites: readonly Site[];
  /** Frozen weight `[in, out]` and bias `[out]` of a site. */
  frozen(path: string): FrozenModule;
  /** What was measured on data. @throws ConfigError when `attach` was given no such calibration. */
  calibrated(kind: CalibrationKind, path: string): HostTensor;
}

/** `'activations'`: the rows that a linear module reads; `'gradients'`: the loss's gradient at its frozen weight. */
export type CalibrationKind = 'activations' | 'gradients';

/** What `calibrate` measured on some batches, by module path. */
export interface Calibration {
  readonly kind: CalibrationKind;
  /** Activations: X^T X / rows `[in, in]` of the rows that are tokens. Gradients: their mean over the batches `[in, out]`. */
  readonly values: HostTensors;
}

/** A module's frozen tensors at rest. */
export interface FrozenModule {
  readonly weight: HostTensor;
  readonly bias?: HostTensor;
}

/** Adapter layers by module path. */
export type AdapterLayers = Readonly<Record<string, AdapterLayer>>;

/**
 * A layer of an adapter: named tensors, and pure functions over them. Inside the step `p` holds the layer's tensors by the
 * names of `params` and `state`; at rest `values` holds the same names.
 */
export interface AdapterLayer {
  readonly site: Site;
  readonly params: Readonly<Record<string, ParamSpec>>;
  /** Not trained, but part of the adapter: masks, smoothed scores. */
  readonly state?: Readonly<Record<string, StateSpec>>;
  /** What stands in the frozen weight's place `[in, out]` while this layer acts, e.g. W0 without its principal part. */
  readonly frozenWeight?: HostTensor;
  /** The layer takes its module's place and reads none of its frozen tensors. */
  readonly replacesModule?: boolean;
  /** The output does not build on `base()`: beside layers of other adapters it comes first, and there is one at most. */
  readonly startsAnew?: boolean;
  /** Names under which it asks for dropout, `<path>.<name>`: the trainer feeds them at every step. */
  readonly noise?: readonly string[];
  /** The module's output `[rows, out]` for x `[rows, in]` (an embedding's x is its row numbers). */
  forward(x: Tensor, p: Tensors, at: ForwardContext): Tensor;
  /** What the layer makes of a head that has its table for a weight: x `[rows, in]`. Left out where the head stays as it is. */
  readonly tiedForward?: AdapterLayer['forward'];
  /** A term of the loss that this layer adds. */
  loss?(p: Tensors, ctx: StepContext): Scalar;
  /** A parameter's gradient, before clipping and the optimizer. */
  gradient?(name: string, gradient: Tensor, p: Tensors): Tensor;
  /** The rule after the optimizer, e.g. a proximal operator: new values by name; what is left out stays as `proposed`. */
  update?(proposed: Tensors, at: UpdateContext): Tensors;
  /** Exact low-rank factors of the change of the weight; merge, export and file format follow from them. */
  toLora?(values: HostTensors): LoraFactors;
  /** The change of the weight `[in, out]`, where `toLora` does not give it; `module`: with the layers before folded in. */
  deltaWeight?(values: HostTensors, module: FrozenModule): Float32Array;
  /** The module's bias `[out]` with this layer folded in, where the layer changes it; `module` likewise. */
  mergedBias?(values: HostTensors, module: FrozenModule): HostTensor;
  /** Names of the tensors that `storedParameters` and `rank` look at. Default: all of them. */
  readonly counted?: readonly string[];
  /** Scalars on disk once the gate or the singular values are folded and dead ranks dropped. */
  storedParameters(values: HostTensors): number;
  /** Ranks that are alive; undefined where the word has no meaning. */
  rank?(values: HostTensors): number;
}

/** What a layer finds at its site inside the step. */
export interface ForwardContext {
  /** The output without this layer, computed when asked for: the frozen module's, or that of the adapters before. */
  base(): Tensor;
  /** The module's own operation with some of its tensors replaced: x `[rows, in]`, weight `[in, out]`, bias `[out]`. */
  run(instead: { readonly x?: Tensor; readonly weight?: Tensor; readonly bias?: Tensor }): Tensor;
  /** Frozen weight `[in, out]`. */
  weight(): Tensor;
  /** Frozen bias `[out]`, where the module has one. */
  bias(): Tensor | undefined;
  readonly ctx: StepContext;
}

/** A trained tensor of a layer. */
export interface ParamSpec {
  readonly initial: HostTensor;
  readonly trainable: boolean;
  /** Optimizer group, e.g. 'default', 'gate', 'head': its learning rate and its place in the clip norm. */
  readonly group: string;
  /** Whether weight decay acts on it. */
  readonly decay: boolean;
  /** Factor of its group's learning rate. Default 1. */
  readonly rateFactor?: number;
  /** A learning rate of its own, the same at every step whatever its group's is. */
  readonly learningRate?: number;
}

/** A tensor that the optimizer moves like any other. */
export function trained(initial: HostTensor, { decay = true }: { readonly decay?: boolean } = {}): ParamSpec {
  return { initial, trainable: true, group: 'default', decay };
}

/** An untrained tensor of a layer. */
export interface StateSpec {
  readonly initial: HostTensor;
  /**
   * The name, without a dot, under which the layers of an adapter have one tensor together instead of one each. Where a file does
   * not hold it, it is `initial`.
   */
  readonly shared?: string;
}

/** What is known inside a step besides the tensors. */
export interface StepContext {
  /** False when evaluating: dropout is off. */
  readonly training: boolean;
  /** A scalar the controller feeds at every step. */
  scalar(name: string): Scalar;
  /** Inverted dropout of x `[rows, features]`; x itself when evaluating. `name` is one of the layer's `noise`, with its path. */
  dropout(name: string, x: Tensor, rate: number): Tensor;
  /** Number of layers of this adapter. */
  readonly layers: number;
  /** Which rows of a mixed batch are an adapter's: `[batch, 1]`, 1 for its own and 0 for the others. */
  rowsOf(adapter: string): Tensor;
}

/** What a layer's rule after the optimizer may look at. */
export interface UpdateContext {
  /** The layer's tensors before this step. */
  readonly previous: Tensors;
  /** Gradients of this step at `previous`, after clipping. */
  readonly gradient: Tensors;
  readonly ctx: StepContext;
}

/** dW = scaling * A B, A `[in, r]`, B `[r, out]`. */
export interface LoraFactors {
  readonly loraA: HostTensor;
  readonly loraB: HostTensor;
  readonly scaling: number;
}

/** The shape of a training run, as a controller needs it. */
export interface TrainPlan {
  readonly totalSteps: number;
  /** Steps in which the learning rate rises; nothing is pruned before their end. */
  readonly warmupSteps: number;
  /** Last steps, in which the budget must hold: checkpoints are selected among them. */
  readonly finalSteps: number;
  /** Of what a controller draws at random. Default 0; `train` gives that of the model. */
  readonly seed?: number;
  /** Learning rates by optimizer group at step 1, 2, .. totalSteps, where they are known beforehand; `train` gives them. */
  readonly learningRates?: (step: number) => Readonly<Record<string, number>>;
}

/** Acts between steps: reads small tensors, returns new ones. */
export interface Controller {
  /** Training rows that `probes` are measured on, kept from training; 0 for a controller without any. Default 0. */
  readonly probeRows?: number;
  /** The scalars that the traced step asks for, for step 1, 2, ..; always the same names. */
  scalars(step: number, learningRates: Readonly<Record<string, number>>): Record<string, number>;
  /** Names (`<path>.<tensor>`) to read after a step; none for most steps. */
  reads(step: number): readonly string[];
  /**
   * Variants of the adapter whose losses it wants to know after a step, by a name of its own: each is tensors that take the place
   * of the adapter's, by `<path>.<tensor>`. None for most steps. The trainer measures their mean loss on training rows that it
   * keeps from training.
   */
  probes?(step: number, values: HostTensors): Readonly<Record<string, HostTensors>>;
  /** Looks at what it asked for, and at the losses of its probes, and returns what changes. */
  afterStep(
    step: number,
    values: HostTensors,
    losses?: Readonly<Record<string, number>>,
  ): ControllerChanges | undefined;
  /** Whether the adapter keeps its budget after this step: only such checkpoints are selected. */
  holdsBudget(step: number): boolean;
  /** Its memory, for a training checkpoint. */
  snapshot(): ControllerState;
  restore(state: ControllerState): void;
}

/** A controller's memory as plain data. */
export type ControllerState = Readonly<Record<string, number | boolean | string | readonly number[]>>;

/** New values of tensors, by `<path>.<tensor>`. */
export interface ControllerChanges {
  readonly values?: HostTensors;
  /** Layers of other ranks by module path: the step is compiled anew. */
  readonly resized?: Readonly<Record<string, ResizedLayer>>;
  /** Whether the optimizer begins anew, with slots of zeros and as at its first step; the schedule goes on. */
  readonly restartsOptimizer?: boolean;
}

/** A layer that takes another's place, with fewer or more ranks. */
export interface ResizedLayer {
  readonly layer: AdapterLayer;
  /** The same tensor with the ranks of the new layer; called for values and for what an optimizer keeps of them. */
  carry(name: string, tensor: HostTensor, kind: CarriedKind): HostTensor;
}
