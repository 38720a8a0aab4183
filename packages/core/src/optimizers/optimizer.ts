import * as tf from '@tensorflow/tfjs';
import type { Scalar, Tensor } from '@tensorflow/tfjs';
import type { Named } from '../settings.js';
import type { HostTensor, HostTensors, Tensors } from '../tensors.js';

/** How trained tensors move by their gradients: a value with a name and plain settings. */
export interface Optimizer extends Named {
  /** What it keeps of a trained tensor from step to step, by name; every slot begins with zeros. */
  readonly slots: Readonly<Record<string, Slot>>;
  /** Every element moves by itself: several tensors may be updated as one vector. */
  readonly elementwise: boolean;
  /** Numbers of step 1, 2, .. since it began, computed on the host in double precision; always the same names. */
  scalars?(step: number): Readonly<Record<string, number>>;
  /** One step of one tensor, as part of the traced step. Gives back every slot that it was given. */
  update(at: OptimizerStep): { readonly value: Tensor; readonly slots: Tensors };
}

/** What an optimizer finds of one tensor at one step. */
export interface OptimizerStep {
  readonly value: Tensor;
  /** The shape of `value`; after clipping. */
  readonly gradient: Tensor;
  readonly slots: Tensors;
  /** eta_t of this tensor: of its group, times its factor. */
  readonly learningRate: Scalar;
  /** Whether weight decay acts on it. */
  readonly decay: boolean;
  /** What `scalars` gave for this step. */
  readonly scalars: Readonly<Record<string, Scalar>>;
}

/** One of the tensors that an optimizer keeps of a trained tensor. */
export interface Slot {
  /** Its shape for a trained tensor of `shape`, or null where such a tensor has no such slot. Default: the same. */
  shape?(shape: readonly number[]): readonly number[] | null;
  /** What becomes of it when the ranks of a layer change. */
  readonly carried: CarriedLike | CarrySlot;
}

/**
 * A slot that goes the way of the tensor itself, of its gradient, or of its gradient's square, element by element; or that begins
 * anew with zeros.
 */
export type CarriedLike = CarriedKind | 'restart';

/** What a tensor that is carried to a layer of other ranks holds. */
export type CarriedKind = 'value' | 'gradient' | 'squaredGradient';

/**
 * A slot that is carried in a way of its own.
 * @param slots all slots of the tensor, as they were; never changed
 * @param carry takes a tensor of the trained tensor's former shape to its new one
 */
export type CarrySlot = (
  slots: HostTensors,
  carry: (tensor: HostTensor, kind: CarriedKind) => HostTensor,
) => HostTensor;

/** Decoupled weight decay: theta (1 - eta_t lambda), and theta itself where lambda is 0. */
export function decayed(value: Tensor, learningRate: Scalar, weightDecay: number): Tensor {
  return weightDecay === 0 ? value : tf.mul(value, tf.sub(1, tf.mul(learningRate, weightDecay)));
}
