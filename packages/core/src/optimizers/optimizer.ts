import * as tf from '@tensorflow/tfjs-core';
import type { Scalar, Tensor } from '@tensorflow/tfjs-core';
import type { Named } from '../settings.js';
import { hostZeros, tensorAt, type HostTensor, type HostTensors, type Tensors } from '../tensors.js';

/** An optimizer: a value with a name and plain settings. */
export interface Optimizer extends Named {
  /** The tensors that it keeps per trained tensor from step to step, by name. Every slot starts with zeros. */
  readonly slots: Readonly<Record<string, Slot>>;
  /** Whether every element is updated independently, so that several tensors may be updated as one vector. */
  readonly elementwise: boolean;
  /**
   * Returns the numbers of step 1, 2, .. since the optimizer started, computed on the host in double precision; always
   * the same names.
   */
  scalars?(step: number): Readonly<Record<string, number>>;
  /** Updates one tensor, as part of the traced step. Returns every slot that it was given. */
  update(at: OptimizerStep): { readonly value: Tensor; readonly slots: Tensors };
}

/** What an optimizer reads for one tensor at one step. */
export interface OptimizerStep {
  /** The trained tensor. */
  readonly value: Tensor;
  /** Its gradient after clipping; the shape of `value`. */
  readonly gradient: Tensor;
  /** Its slots, by name. */
  readonly slots: Tensors;
  /** This tensor's learning rate eta_t: its group's, times its factor. */
  readonly learningRate: Scalar;
  /** Whether weight decay applies. */
  readonly decay: boolean;
  /** The results of `scalars` for this step. */
  readonly scalars: Readonly<Record<string, Scalar>>;
}

/** A tensor that an optimizer keeps per trained tensor. */
export interface Slot {
  /**
   * Returns the slot's shape for a trained tensor of `shape`, or null where such a tensor has no such slot. Default:
   * the same shape.
   */
  shape?(shape: readonly number[]): readonly number[] | null;
  /** How the slot is carried over when the ranks of a layer change. */
  readonly carried: CarryRule | CarrySlot;
}

/**
 * How a slot is carried over, element by element: like the tensor itself, like its gradient or like its gradient's
 * square; or whether it restarts with zeros.
 */
export type CarryRule = CarryKind | 'restart';

/** The content of a tensor that is carried over to a layer of other ranks. */
export type CarryKind = 'value' | 'gradient' | 'squaredGradient';

/**
 * Carries a slot over in its own way.
 * @param slots all slots of the tensor before the change; not to be modified
 * @param carry converts a tensor from the trained tensor's old shape to its new one
 */
export type CarrySlot = (slots: HostTensors, carry: (tensor: HostTensor, kind: CarryKind) => HostTensor) => HostTensor;

/** Applies decoupled weight decay: theta (1 - eta_t lambda); theta itself where lambda is 0. */
export function decayed(value: Tensor, learningRate: Scalar, weightDecay: number): Tensor {
  return weightDecay === 0 ? value : tf.mul(value, tf.sub(1, tf.mul(learningRate, weightDecay)));
}

/** Returns one slot of a tensor whose layer has new ranks, from the tensor's slots before. */
export function carriedSlot(
  { slots: kinds }: Optimizer,
  slot: string,
  slots: HostTensors,
  carry: (tensor: HostTensor, kind: CarryKind) => HostTensor,
): HostTensor {
  const { carried } = tensorAt(kinds, slot);
  const tensor = tensorAt(slots, slot);
  if (typeof carried === 'function') return carried(slots, carry);
  if (carried !== 'restart') return carry(tensor, carried);
  return hostZeros(carry(tensor, 'gradient').shape);
}
