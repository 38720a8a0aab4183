import type { CarryKind } from '../optimizers/optimizer.js';
import type { HostTensor, HostTensors } from '../tensors.js';
import type { AdapterLayer } from './layer.js';

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
