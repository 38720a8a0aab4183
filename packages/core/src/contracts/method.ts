import type { Scalar, Tensor } from '@tensorflow/tfjs';
import type { CarryKind } from '../optimizers/optimizer.js';
import type { Rng } from '../rng.js';
import type { HostTensor, HostTensors, Tensors } from '../tensors.js';
import type { Site, SiteKind } from './site.js';

/** What a method can do. Shared code and the conformance suite ask these questions instead of naming methods. */
export interface Capabilities {
  /** Whether the trained layer can be merged into the frozen weight. */
  readonly mergeable: boolean;
  /** Whether the untrained adapter leaves the model's outputs unchanged. */
  readonly identityAtInit: boolean;
  /** Whether ranks change during training. */
  readonly adaptsRank: boolean;
  /** The kinds of modules it can adapt. */
  readonly kinds: readonly SiteKind[];
}

/**
 * Selects the modules that a method adapts, by PEFT's rules: a list holds exact paths or dotted suffixes, a string is a
 * regular expression for the whole path, and `all-linear` is every linear module but the head.
 */
export interface TargetConfig {
  /** The modules to adapt. Default: the model's own table. */
  readonly targetModules: string | readonly string[] | null;
  /** Modules to leave unchanged, named in the same ways. Default: none. */
  readonly excludeModules: string | readonly string[] | null;
  /** Index or indices of the transformer layers to adapt; only with a list of targets. Default: all layers. */
  readonly layersToTransform: number | readonly number[] | null;
  /**
   * The name of the list of layers in module paths. Default: the first number after a dotted name is the layer index.
   */
  readonly layersPattern?: string | readonly string[] | null;
  /**
   * Modules trained in full and saved with the adapter, by PEFT's rule: every module whose path, or that of a module it
   * is part of, ends in one of these names, so that 'norm' means every norm of a Llama. The head is always among them.
   */
  readonly modulesToSave: readonly string[] | null;
  /**
   * Tokens whose embedding rows are trained while the table's other rows stay frozen; or such tokens by the end of a
   * table's path. A language-model head that shares the table uses the same rows, unless tokens of its own are given
   * for it.
   */
  readonly trainableTokenIndices?: readonly number[] | Readonly<Record<string, readonly number[]>> | null;
  /**
   * Whether a table that `modulesToSave` trains in full stays shared with a tied head. Default false: only the named
   * one changes.
   */
  readonly ensureWeightTying?: boolean;
}

/** The contract of a parameter-efficient fine-tuning method. Make one with `defineMethod`. */
export interface PeftMethod<C extends TargetConfig = TargetConfig> {
  /** The name on the command line. In capitals it is the `peft_type` on disk. */
  readonly name: string;
  /** What the method can do. */
  readonly capabilities: Capabilities;
  /** The peak learning rate (AdamW) that a command trains with when the user names none. Default 1e-3. */
  readonly defaultLearningRate?: number;
  /** Validates options and fills in defaults. @throws ConfigError naming the field. */
  parseConfig(input: unknown): C;
  /** Returns which calibration the initial values need besides the weights; null for none. */
  calibration?(config: C): CalibrationKind | null;
  /**
   * Returns the configuration that fits `budget` parameters over these sites, head excluded. Matched on 'stored' (the
   * default), that many are stored after training; on 'trained', that many are trained at the start. They differ for
   * methods that prune.
   * @throws ConfigError for a budget that is too small for one module, or larger than the sites can hold.
   */
  fitBudget?(sites: readonly Site[], budget: number, config: C, matchOn?: MatchOn): C;
  /**
   * Returns the configuration at one level (0 or more) of the sparsifying schedule (`sparsify`): the higher the level,
   * the fewer ranks survive. The layers are created once, from the first configuration, so `adapt` must return the same
   * layers at every level; a level acts through `controller`, which is created again for each.
   * @throws ConfigError when the configuration sets its own levels.
   */
  atSparsity?(config: C, level: number): C;
  /**
   * Returns the stages that find the adapter's size, for a configuration that leaves its size to training; null for any
   * other. As with `atSparsity`, the layers stay those of the first configuration.
   */
  sizing?(config: C): SizeStages<C> | null;
  /**
   * Creates one layer per adapted site. It gets all sites at once, for shared tensors, uneven ranks and choices by
   * role.
   */
  adapt(sites: readonly Site[], config: C, init: Init): AdapterLayers;
  /** Creates what acts between the steps of one training run; undefined where this configuration needs nothing. */
  controller?(layers: AdapterLayers, config: C, plan: TrainPlan): Controller | undefined;
  /**
   * Returns layers of the sizes that `values` have, from those of the first step, for methods that resize layers. The
   * values are those of a later step or of a file.
   */
  resumedLayers?(adapter: AdapterContents<C>): AdapterLayers;
  /** The `peft_type`s on disk that this method reads. */
  readonly peftTypes: readonly string[];
  /** Converts the adapter to its file format. `pruned: false` keeps what only further training needs. */
  toFile(adapter: AdapterContents<C>, options: { pruned: boolean }): AdapterFile;
  /** Reads configuration and values from a file's content. @throws CheckpointError naming the tensor. */
  fromFile(file: AdapterFile): { config: Partial<C>; values: HostTensors };
}

/**
 * Returns the configuration of a stage: limited to `budget` stored parameters in the end or, for null, to the ranks
 * that are alive.
 */
export type SizeStages<C extends TargetConfig = TargetConfig> = (budget: number | null) => C;

/** The parameters that a budget counts: those stored in the end, or those trained at the start. */
export type MatchOn = 'stored' | 'trained';

/** A method as its package exports it. Calling it with options gives what `attach` needs. */
export interface CallableMethod<C extends TargetConfig = TargetConfig> extends PeftMethod<C> {
  (options?: Partial<C>): ConfiguredMethod<C>;
}

/** A method with its configuration, ready to be attached. */
export interface ConfiguredMethod<C extends TargetConfig = TargetConfig> {
  /** The method. */
  readonly method: PeftMethod<C>;
  /** Its complete configuration, defaults filled in. */
  readonly config: C;
}

/** The parts of an adapter. */
export interface AdapterContents<C extends TargetConfig = TargetConfig> {
  /** The method's configuration. */
  readonly config: C;
  /** The layers, by module path. */
  readonly layers: AdapterLayers;
  /** Every tensor of every layer, by `<path>.<name>`; shared tensors by their name alone. */
  readonly values: HostTensors;
}

/** An adapter in PEFT's format, without the head and the key prefix. */
export interface AdapterFile {
  /** The method's part of adapter_config.json, in PEFT's names. */
  readonly config: Readonly<Record<string, unknown>>;
  /**
   * Tensors in torch's orientation, by `<path>.<suffix>`, e.g. `encoder.layer.0.ffn.in.lora_A.weight`, or by a name
   * without a dot.
   */
  readonly tensors: HostTensors;
  /** The modules of the model that a file is read for. Every tensor whose name has a dot belongs to one of them. */
  readonly sites?: readonly Site[];
}

/** What a method can read when it creates its layers. */
export interface Init {
  /** A random stream for this adapter; fork it by module path. */
  readonly rng: Rng;
  /**
   * Every module of the model but those trained in full. It includes modules that are not adapted, for methods that
   * also train e.g. their biases.
   */
  readonly sites: readonly Site[];
  /** Returns a site's frozen weight `[in, out]` and bias `[out]`. */
  frozen(path: string): FrozenModule;
  /** Returns what was measured on data at a site. @throws ConfigError when `attach` was given no such calibration. */
  calibrated(kind: CalibrationKind, path: string): HostTensor;
}

/**
 * `'activations'`: the input rows of a linear module; `'gradients'`: the loss's gradient with respect to its frozen
 * weight.
 */
export type CalibrationKind = 'activations' | 'gradients';

/** What `calibrate` measured on some batches. */
export interface Calibration {
  /** Which of the two was measured. */
  readonly kind: CalibrationKind;
  /**
   * By module path. Activations: X^T X / rows `[in, in]` over the rows that are tokens. Gradients: their mean over the
   * batches `[in, out]`.
   */
  readonly values: HostTensors;
}

/** A module's frozen tensors on the host. */
export interface FrozenModule {
  /** `[in, out]`. */
  readonly weight: HostTensor;
  /** `[out]`; undefined where the module has none. */
  readonly bias?: HostTensor;
}

/** Adapter layers by module path. */
export type AdapterLayers = Readonly<Record<string, AdapterLayer>>;

/**
 * A layer of an adapter: named tensors, and pure functions over them. Inside a training step `p` holds the layer's
 * tensors by the names of `params` and `state`; outside, `values` holds them on the host by the same names.
 */
export interface AdapterLayer {
  /** The module that this layer adapts. */
  readonly site: Site;
  /** The trainable and fixed parameters, by name. */
  readonly params: Readonly<Record<string, ParamSpec>>;
  /** Tensors that are not trained but part of the adapter, e.g. masks and smoothed scores. */
  readonly state?: Readonly<Record<string, StateSpec>>;
  /** A replacement for the frozen weight `[in, out]` while this layer acts, e.g. W0 without its principal part. */
  readonly frozenWeight?: HostTensor;
  /** Whether the layer replaces its module and reads none of its frozen tensors. Default false. */
  readonly replacesModule?: boolean;
  /**
   * Whether the output does not build on `base()`. Such a layer comes before those of other adapters, and a module has
   * at most one. Default false.
   */
  readonly ignoresBase?: boolean;
  /** Names of the layer's dropout masks, which it requests as `<path>.<name>`. The trainer supplies them at every step. */
  readonly noise?: readonly string[];
  /** Computes the module's output `[rows, out]` for x `[rows, in]` (for an embedding, x holds row numbers). */
  forward(x: Tensor, p: Tensors, at: ForwardContext): Tensor;
  /**
   * Computes the output of a head that shares this layer's table: x `[rows, in]`. Left out where the head stays
   * unchanged.
   */
  readonly tiedForward?: AdapterLayer['forward'];
  /** Computes a term that this layer adds to the loss. */
  loss?(p: Tensors, ctx: StepContext): Scalar;
  /** Transforms a parameter's gradient, before clipping and the optimizer. */
  gradient?(name: string, gradient: Tensor, p: Tensors): Tensor;
  /**
   * Applies a rule after the optimizer, e.g. a proximal operator. Returns new values by name; tensors left out stay as
   * `proposed`.
   */
  update?(proposed: Tensors, at: UpdateContext): Tensors;
  /** Returns exact low-rank factors of the weight's change. Merging, export and the file format follow from them. */
  toLora?(values: HostTensors): LoraFactors;
  /**
   * Returns the weight's change `[in, out]`, for layers without `toLora`. `module` already has the layers before this
   * one merged.
   */
  deltaWeight?(values: HostTensors, module: FrozenModule): Float32Array;
  /**
   * Returns the module's bias `[out]` with this layer merged, where the layer changes it. `module` as for
   * `deltaWeight`.
   */
  mergedBias?(values: HostTensors, module: FrozenModule): HostTensor;
  /** Names of the tensors that `storedParameters` and `rank` read. Default: all. */
  readonly counted?: readonly string[];
  /** Counts the numbers on disk after gates or singular values are folded in and pruned ranks are dropped. */
  storedParameters(values: HostTensors): number;
  /** Counts the ranks that are alive. Left out where a layer has no ranks. */
  rank?(values: HostTensors): number;
}

/** What a layer can use at its site inside a step. */
export interface ForwardContext {
  /** Computes the output without this layer: the frozen module's, or that of the adapters before it. */
  base(): Tensor;
  /**
   * Runs the module's own operation with some of its tensors replaced: x `[rows, in]`, weight `[in, out]`, bias
   * `[out]`.
   */
  run(instead: { readonly x?: Tensor; readonly weight?: Tensor; readonly bias?: Tensor }): Tensor;
  /** Returns the frozen weight `[in, out]`. */
  weight(): Tensor;
  /** Returns the frozen bias `[out]`, where the module has one. */
  bias(): Tensor | undefined;
  /** The step's own values: dropout, scalars, the mode. */
  readonly ctx: StepContext;
}

/** A parameter of a layer. */
export interface ParamSpec {
  /** The value at the start of training. */
  readonly initial: HostTensor;
  /** Whether the optimizer updates it. */
  readonly trainable: boolean;
  /** The optimizer group, e.g. 'default', 'gate' or 'head'. It sets the learning rate and the part in the clip norm. */
  readonly group: string;
  /** Whether weight decay applies. */
  readonly decay: boolean;
  /** A factor on its group's learning rate. Default 1. */
  readonly rateFactor?: number;
  /** A learning rate of its own, the same at every step, whatever its group's is. */
  readonly learningRate?: number;
}

/** Describes a trained tensor of the default group. */
export function trained(initial: HostTensor, { decay = true }: { readonly decay?: boolean } = {}): ParamSpec {
  return { initial, trainable: true, group: 'default', decay };
}

/** A tensor of a layer that is not trained. */
export interface StateSpec {
  /** The value at the start of training. */
  readonly initial: HostTensor;
  /**
   * A name without a dot: all layers of the adapter with this name share one tensor. If a file lacks it, it is
   * `initial`.
   */
  readonly shared?: string;
}

/** Values of a training step other than tensors of layers. */
export interface StepContext {
  /** False during evaluation, when dropout is off. */
  readonly training: boolean;
  /** Returns a scalar that the controller supplies at every step. */
  scalar(name: string): Scalar;
  /**
   * Applies inverted dropout to x `[rows, features]`; returns x itself during evaluation. `name` is one of the layer's
   * `noise` names, path included.
   */
  dropout(name: string, x: Tensor, rate: number): Tensor;
  /** The number of layers of this adapter. */
  readonly layers: number;
  /** Returns the mask `[batch, 1]` of an adapter's rows in a mixed batch: 1 for its own rows, 0 for the others. */
  rowsOf(adapter: string): Tensor;
}

/** What a layer's `update` can read. */
export interface UpdateContext {
  /** The layer's tensors before this step. */
  readonly previous: Tensors;
  /** This step's gradients at `previous`, after clipping. */
  readonly gradient: Tensors;
  /** The step's own values. */
  readonly ctx: StepContext;
}

/** Low-rank factors of a weight's change: dW = scaling * A B. */
export interface LoraFactors {
  /** `[in, r]`. */
  readonly loraA: HostTensor;
  /** `[r, out]`. */
  readonly loraB: HostTensor;
  /** A number, usually alpha / r. */
  readonly scaling: number;
}

/** The length and schedule of a training run, as a controller needs them. */
export interface TrainPlan {
  /** The number of optimizer steps. */
  readonly totalSteps: number;
  /** The steps of learning-rate warmup. No rank is pruned before they end. */
  readonly warmupSteps: number;
  /** The number of last steps during which the budget must hold; checkpoints are selected among them. */
  readonly finalSteps: number;
  /** The seed for what a controller draws at random. Default 0; `train` passes the model's. */
  readonly seed?: number;
  /**
   * Returns the learning rates by optimizer group at step 1, 2, .. totalSteps, where they are known beforehand; `train`
   * passes them.
   */
  readonly learningRates?: (step: number) => Readonly<Record<string, number>>;
}

/** Acts between training steps: reads small tensors and returns new ones. */
export interface Controller {
  /** The number of training rows to hold out for `probes`. Default 0, for a controller without probes. */
  readonly probeRows?: number;
  /** Returns the scalars that the compiled step reads, for step 1, 2, ..; always the same names. */
  scalars(step: number, learningRates: Readonly<Record<string, number>>): Record<string, number>;
  /** Returns the names (`<path>.<tensor>`) to read after a step; none for most steps. */
  reads(step: number): readonly string[];
  /**
   * Returns variants of the adapter whose losses it needs after a step, by names of its choice; none for most steps. A
   * variant holds the tensors that replace the adapter's, by `<path>.<tensor>`. The trainer measures each variant's
   * mean loss on the rows it holds out.
   */
  probes?(step: number, values: HostTensors): Readonly<Record<string, HostTensors>>;
  /** Receives the values it asked for and the losses of its probes; returns what changes. */
  afterStep(
    step: number,
    values: HostTensors,
    losses?: Readonly<Record<string, number>>,
  ): ControllerChanges | undefined;
  /** Whether the adapter is within its budget after this step. Only such checkpoints are selected. */
  holdsBudget(step: number): boolean;
  /** Returns its memory, for a training checkpoint. */
  snapshot(): ControllerState;
  /** Continues from the memory of a checkpoint. */
  restore(state: ControllerState): void;
}

/** A controller's memory as plain data. */
export type ControllerState = Readonly<Record<string, number | boolean | string | readonly number[]>>;

/** What a controller changes after a step. */
export interface ControllerChanges {
  /** New values of tensors, by `<path>.<tensor>`. */
  readonly values?: HostTensors;
  /** Layers with other ranks, by module path. The step is then compiled again. */
  readonly resized?: Readonly<Record<string, ResizedLayer>>;
  /**
   * Whether the optimizer restarts, with zero moments and its step count at 0. The learning-rate schedule continues.
   * Default false.
   */
  readonly restartsOptimizer?: boolean;
}

/** A layer that replaces another one, with fewer or more ranks. */
export interface ResizedLayer {
  /** The new layer. */
  readonly layer: AdapterLayer;
  /**
   * Returns the same tensor with the new layer's ranks. It is called for values and for the optimizer's state of them.
   */
  carry(name: string, tensor: HostTensor, kind: CarryKind): HostTensor;
}
