import * as tf from '@tensorflow/tfjs-core';
import type { Tensor } from '@tensorflow/tfjs-core';
import type { ParamSpec } from '../contracts/layer.js';
import type { Optimizer } from '../optimizers/optimizer.js';
import {
  floats,
  grouped,
  hostTensor,
  joinedFloats,
  mapValues,
  sizeOf,
  sumOf,
  tensorAt,
  type HostTensors,
  type Tensors,
  type TensorSpec,
} from '../tensors.js';

/*
 * Trained tensors that an optimizer updates together, as one vector. Its slots are held as that vector from step to
 * step, so that a step neither joins nor parts them; snapshots have them by tensor. Inside the vector, tensors of equal
 * shape follow each other: they are joined and parted along their first axis, without a reshape of each.
 */

/** What the update of a trained tensor depends on. */
export interface UpdatedTensor extends Omit<ParamSpec, 'initial' | 'trainable'> {
  /** Its name among the tensors of all layers. */
  readonly key: string;
  /** The size of each axis. */
  readonly shape: readonly number[];
}

/** Trained tensors that are updated together, in the order in which their vector holds them. */
export interface UpdateGroup {
  /** The name of the group's slots. */
  readonly name: string;
  /** The tensors. One that is alone keeps its shape. */
  readonly tensors: readonly [UpdatedTensor, ...UpdatedTensor[]];
}

/** The size above which a tensor is updated alone: copying it would cost more than the saved operators. */
const LARGE = 1 << 16;

/**
 * Groups small tensors with the same rate and decay, to update them as one vector. Only for optimizers that update
 * every element independently.
 */
export function updateGroups(optimizer: Optimizer, trained: readonly UpdatedTensor[]): UpdateGroup[] {
  const alike = grouped(trained, ({ key, shape, group, decay, rateFactor = 1, learningRate = null }) => {
    const isAlone = !optimizer.elementwise || sizeOf(shape) > LARGE;
    return isAlone ? key : JSON.stringify([group, decay, rateFactor, learningRate]);
  });
  return Array.from(alike, ([name, tensors]) => ({ name, tensors: blocksOf(tensors).flat() as [UpdatedTensor] }));
}

/** Returns tensors by shape, large ones alone. */
export function blocksOf<T extends Pick<UpdatedTensor, 'key' | 'shape'>>(tensors: readonly T[]): [T, ...T[]][] {
  const blocks = grouped(tensors, ({ key, shape }) => (sizeOf(shape) > LARGE ? key : shape.join()));
  return [...blocks.values()];
}

/** Joins tensors of one shape along their first axis: n of `[rows, ..]` -> `[n rows, ..]`. */
export function stacked(block: readonly UpdatedTensor[], of: Tensors): Tensor {
  const tensors = block.map(({ key }) => tensorAt(of, key));
  return tf.concat(tensors.map((tensor) => (tensor.rank === 0 ? tf.reshape(tensor, [1]) : tensor)));
}

/** Returns the tensors of a group as one vector `[elements]`. */
export function joined({ tensors }: UpdateGroup, of: Tensors): Tensor {
  const [first, ...others] = tensors;
  if (others.length === 0) return tensorAt(of, first.key);
  return tf.concat(blocksOf(tensors).map((block) => tf.reshape(stacked(block, of), [-1])));
}

/** Returns the tensors that a vector of `joined` holds, by key. */
export function parted({ tensors }: UpdateGroup, vector: Tensor): Tensors {
  const [first, ...others] = tensors;
  if (others.length === 0) return { [first.key]: vector };
  const blocks = blocksOf(tensors);
  const parts = tf.split(vector, blocks.map(sizeOfBlock));
  const entries = blocks.flatMap((block, at) => {
    const { shape } = block[0];
    const [rows = 1, ...rest] = shape;
    const together = tf.reshape(parts[at] as Tensor, [block.length * rows, ...rest]);
    return tf.split(together, block.length).map((part, place) => {
      const { key } = block[place] as UpdatedTensor;
      return [key, tf.reshape(part, [...shape])] as const;
    });
  });
  return Object.fromEntries(entries);
}

function sizeOfBlock(block: readonly [UpdatedTensor, ...UpdatedTensor[]]): number {
  return block.length * sizeOf(block[0].shape);
}

/** Returns the specs of an optimizer's slots, by slot and then by the groups that have it. */
export function slotSpecs(
  { slots }: Optimizer,
  groups: readonly UpdateGroup[],
): Record<string, Record<string, TensorSpec>> {
  return mapValues(slots, ({ shape: shapeOf }) => {
    const specs: Record<string, TensorSpec> = {};
    for (const { name, tensors } of groups) {
      const [{ shape }, ...others] = tensors;
      const total = sumOf(tensors, (tensor) => sizeOf(tensor.shape));
      const own = others.length > 0 ? [total] : shapeOf ? shapeOf(shape) : shape;
      if (own) specs[name] = { dtype: 'float32', shape: own };
    }
    return specs;
  });
}

/** Returns a slot by group, as a step holds it, from that by tensor, as a snapshot has it. */
export function heldSlot(groups: readonly UpdateGroup[], slot: HostTensors): HostTensors {
  const entries = groups.flatMap(({ name, tensors }) => {
    const [first, ...others] = tensors;
    if (others.length === 0) return slot[first.key] ? [[name, tensorAt(slot, first.key)] as const] : [];
    const all = tensors.map(({ key }) => floats(tensorAt(slot, key), key));
    const data = joinedFloats(all);
    return [[name, hostTensor(data, [data.length])] as const];
  });
  return Object.fromEntries(entries);
}

/** Returns a slot by tensor, from that by group. */
export function slotByTensor(groups: readonly UpdateGroup[], held: HostTensors): HostTensors {
  const entries = groups.flatMap(({ name, tensors }) => {
    const vector = held[name];
    const [first, ...others] = tensors;
    if (!vector || others.length === 0) return vector ? [[first.key, vector] as const] : [];
    let end = 0;
    return tensors.map(({ key, shape }) => {
      const data = floats(vector, name).slice(end, (end += sizeOf(shape)));
      return [key, hostTensor(data, shape)] as const;
    });
  });
  return Object.fromEntries(entries);
}
