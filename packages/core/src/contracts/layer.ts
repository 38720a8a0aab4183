import type { Scalar, Tensor } from '@tensorflow/tfjs-core';
import type { HostTensor, HostTensors, Tensors } from '../tensors.js';
import type { Site } from './site.js';

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
  /**
   * Names of the layer's dropout masks, which it requests as `<path>.<name>`. The trainer supplies them at every step.
   */
  readonly noise?: readonly string[];
  /** s, the constant factor of the change, for methods that have one, usually alpha / r. */
  readonly scaling?: number;
  /**
   * Computes the module's output. Linear module: x `[rows, in]` -> `[rows, out]`; norm: x `[.., width]` ->
   * `[.., width]`; embedding: row numbers `[..]` -> `[.., out]`.
   */
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
   * Whether the layer adds the same change to whatever comes before it: neither `forward` nor `deltaWeight` reads the
   * module's tensors. Default: whether it has `toLora`.
   */
  readonly isIndependent?: boolean;
  /**
   * Returns the module's bias `[out]` with this layer merged, where the layer changes it. `module` as for
   * `deltaWeight`.
   */
  mergedBias?(values: HostTensors, module: FrozenModule): HostTensor;
  /**
   * Returns a bias `[out]` that the layers before this one gave a module without its own, with this layer merged. Left
   * out where this layer does not change it.
   */
  mergedAddedBias?(values: HostTensors, bias: HostTensor): HostTensor;
  /**
   * Returns this layer for other numbers of its module, e.g. those of the float32 file. Left out where the layer holds
   * nothing that was computed from them.
   */
  onModule?(module: FrozenModule): AdapterLayer;
  /** Names of the tensors that `storedParameters` and `rank` read. Default: all. */
  readonly counted?: readonly string[];
  /**
   * Counts the layer's own numbers on disk, after gates or singular values are folded in and pruned ranks are dropped.
   */
  storedParameters(values: HostTensors): number;
  /** Counts the ranks that are alive. Left out where a layer has no ranks. */
  rank?(values: HostTensors): number;
}

/** A module's frozen tensors on the host. */
export interface FrozenModule {
  /** `[in, out]`. */
  readonly weight: HostTensor;
  /** `[out]`; undefined where the module has none. */
  readonly bias?: HostTensor;
}

/** What a layer can use at its site inside a step. */
export interface ForwardContext {
  /** Computes the output without this layer: the frozen module's, or that of the adapters before it. */
  base(): Tensor;
  /**
   * Runs the module's own operation with some of its tensors replaced: x as in `AdapterLayer.forward`, weight
   * `[in, out]`, bias `[out]`.
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
  /** A constant learning rate that replaces its group's. */
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
  /** Whether the adapter's file holds a shared tensor, so that it counts as stored. Default false. */
  readonly inFile?: boolean;
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
  /**
   * The rates of the frozen network's own dropout in this run, by place; its masks have these names. Empty where it
   * is off.
   */
  readonly networkDropout: Readonly<Record<string, number>>;
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
