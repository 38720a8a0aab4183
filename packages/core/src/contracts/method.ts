import type { Rng } from '../rng.js';
import type { HostTensor, HostTensors } from '../tensors.js';
import type { Controller, TrainPlan } from './controller.js';
import type { AdapterLayers, FrozenModule } from './layer.js';
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
  /** The name on the command line. A `peft_type` that is this name in capitals is read by this method before others. */
  readonly name: string;
  /** What the method can do. */
  readonly capabilities: Capabilities;
  /** The peak learning rate (AdamW) of a run that names none. Default 1e-3. */
  readonly defaultLearningRate?: number;
  /**
   * Defaults that a command uses on the user's own data, for options that the user does not name: where the paper's
   * defaults suit only longer runs.
   */
  readonly shortRunOptions?: Partial<C>;
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
   * Returns the configuration whose change has the factor `scaling` in every module (`AdapterLayer.scaling`), for
   * methods that have such a factor.
   */
  scaledTo?(config: C, scaling: number): C;
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
  /** Those that Hugging Face PEFT reads, too, besides LORA. Default: none. */
  readonly readByPeft?: readonly string[];
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
export interface CallableMethod<C extends TargetConfig = TargetConfig, O = Partial<C>> extends PeftMethod<C> {
  (options?: O): ConfiguredMethod<C>;
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
