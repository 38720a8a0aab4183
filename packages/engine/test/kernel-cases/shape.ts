import * as tf from '@tensorflow/tfjs-core';
import type { Tensor1D } from '@tensorflow/tfjs-core';
import { floats, integers } from '../cases.js';
import { get, of } from './case.js';
import type { Case } from './case.js';

/** Kernels that rearrange or create elements. */
export const shape: Readonly<Record<string, Case>> = {
  // shape
  'Reshape, Identity': of([2, 3, 4], (x) => [
    tf.reshape(x, [6, 4]),
    tf.reshape(tf.reshape(x, [24]), [3, -1]),
    tf.clone(x),
    tf.reshape(tf.exp(tf.reshape(x, [6, 4])), [2, 3, 4]),
    tf.reshape(tf.broadcastTo(tf.slice(x, [0, 0, 0], [1, 1, 1]), [2, 2, 1]), [4]),
  ]),
  'Reshape of an empty tensor': {
    inputs: { x: floats([0, 3]) },
    fn: (t) => ({ y: tf.reshape(get(t, 'x'), [3, 0]), z: tf.reshape(tf.exp(get(t, 'x')), [2, 0, 5]) }),
  },
  'matrix views': {
    inputs: {
      m: floats([6, 4]),
      full: floats([2, 3, 4]),
      column: floats([2, 3, 1]),
      wide: floats([5, 2, 3, 4]),
      row: floats([4]),
      plane: floats([3, 4]),
      other: floats([2, 3, 4], -2, 2, 2),
    },
    fn: (t) => {
      const view = tf.reshape(get(t, 'm'), [2, 3, 4]); // held as [6, 4]
      return {
        full: tf.add(view, get(t, 'full')),
        column: tf.mul(tf.add(view, get(t, 'column')), get(t, 'row')),
        row: tf.sub(view, get(t, 'row')),
        plane: tf.mul(view, get(t, 'plane')),
        wide: tf.mul(view, get(t, 'wide')),
        splat: tf.add(view, tf.ones([5, 2, 3, 4])),
        both: tf.mul(view, tf.reshape(tf.exp(get(t, 'm')), [2, 3, 4])),
        where: tf.where(tf.greater(get(t, 'other'), 0), view, tf.scalar(0)),
        mean: tf.sub(view, tf.mean(view, -1, true)),
        flat: tf.sum(tf.reshape(tf.square(view), [6, 4]), 0),
        turned: tf.transpose(view, [1, 0, 2]),
        repeated: tf.tile(tf.reshape(get(t, 'm'), [6, 1, 4]), [1, 2, 1]),
        spread: tf.mul(tf.broadcastTo(tf.reshape(get(t, 'm'), [6, 1, 4]), [6, 2, 4]), 2),
        split: tf.reshape(view, [2, 3, 2, 2]),
      };
    },
    gradients: ['m', 'full', 'column', 'row', 'plane'],
  },
  Cast: of([2, 3], (x) => [tf.cast(x, 'int32'), tf.cast(x, 'bool'), tf.cast(tf.greater(x, 0), 'float32')], false),
  'Cast with gradient': of([2, 3], (x) => tf.cast(x, 'float32')),
  ExpandDims: of([2, 3], (x) => [tf.expandDims(x, 0), tf.expandDims(x, -1), tf.squeeze(tf.expandDims(x, 1))]),
  Transpose: of([2, 3, 4], (x) => [tf.transpose(x), tf.transpose(x, [1, 0, 2]), tf.transpose(tf.reshape(x, [24]))]),
  'Tile, BroadcastTo': of([2, 1, 3], (x) => [
    tf.tile(x, [2, 3, 1]),
    tf.broadcastTo(x, [4, 2, 5, 3]),
    tf.exp(tf.broadcastTo(x, [2, 2, 3])),
  ]),
  Slice: of([3, 4], (x) => [
    tf.slice(x, [1, 1], [2, 2]),
    tf.slice(x, [1]),
    tf.slice(x, [0, 2], [-1, -1]),
    tf.slice(x, 0),
    tf.slice(x, [1, 0], [0, 4]),
  ]),
  StridedSlice: of(
    [5, 6],
    (x) => [
      tf.stridedSlice(x, [0, 1], [5, 6], [2, 2]),
      tf.stridedSlice(x, [4, 5], [-6, 1], [-1, -2]),
      tf.stridedSlice(x, [1, 0], [2, 6], [1, 1], 0, 0, 0, 0, 1),
    ],
    false,
  ),
  Reverse: of([2, 3, 4], (x) => [tf.reverse(x, 1), tf.reverse(x, [0, -1]), tf.reverse(x)]),
  SplitV: of([4, 6], (x) => [...tf.split(x, 3, 1), ...tf.split(x, [1, 3], 0), ...tf.split(x, [2, -1], -1)]),
  'SplitV into many': of([60, 2], (x) => [
    ...tf.split(x, 60),
    ...tf.split(x, [9, ...Array.from({ length: 17 }, () => 3)]),
  ]),
  'Unpack many': of([20, 2], (x) => tf.unstack(x)),
  Unpack: of([3, 2, 4], (x) => [...tf.unstack(x), ...tf.unstack(x, -1)]),
  GatherV2: {
    inputs: { x: floats([4, 5, 2]), ids: integers([3, 2], 0, 4), batched: integers([4, 3], 0, 5) },
    fn: (t) => ({
      rows: tf.gather(get(t, 'x'), get(t, 'ids')),
      columns: tf.gather(get(t, 'x'), get(t, 'ids'), 1),
    }),
    gradients: ['x'],
  },
  'GatherV2 by batch': {
    inputs: { x: floats([4, 5, 2]), ids: integers([4, 3], 0, 5) },
    fn: (t) => ({ y: tf.gather(get(t, 'x'), get(t, 'ids'), 1, 1) }),
  },
  GatherNd: {
    inputs: { x: floats([4, 5, 2]), ids: integers([3, 2], 0, 4) },
    fn: (t) => ({ y: tf.gatherND(get(t, 'x'), get(t, 'ids')) }),
  },
  ScatterNd: {
    inputs: { ids: integers([5, 2], 0, 2), updates: floats([5, 3]), rows: integers([6, 1], 0, 3), flat: floats([6]) },
    fn: (t) => ({
      y: tf.scatterND(get(t, 'ids'), get(t, 'updates'), [2, 4, 3]),
      z: tf.scatterND(get(t, 'rows'), get(t, 'flat'), [3]),
    }),
  },
  UnsortedSegmentSum: {
    inputs: { x: floats([6, 2, 2]), ids: integers([6], -1, 3) },
    fn: (t) => ({ y: tf.unsortedSegmentSum(get(t, 'x'), get(t, 'ids') as Tensor1D, 3) }),
    gradients: ['x'],
  },
  Concat: of([2, 3], (x) => [
    tf.concat([x, tf.neg(x)]),
    tf.concat([x, tf.exp(x)], -1),
    tf.concat([tf.slice(x, [0, 0], [0, 3]), x]),
  ]),
  Pack: of([2, 3], (x) => [tf.stack([x, tf.neg(x)]), tf.stack([x, x], 1), tf.stack([x, tf.exp(x)], -1)]),
  PadV2: of([2, 3], (x) => [
    tf.pad(x, [
      [1, 0],
      [0, 2],
    ]),
    tf.pad(
      x,
      [
        [0, 0],
        [1, 1],
      ],
      3.5,
    ),
  ]),
  'PadV2 of integers': { inputs: { x: integers([2], 0, 9) }, fn: (t) => ({ y: tf.pad(get(t, 'x'), [[1, 1]], 4) }) },
  MirrorPad: of([3, 4], (x) =>
    tf.mirrorPad(
      x,
      [
        [1, 0],
        [2, 1],
      ],
      'reflect',
    ),
  ),

  // creation
  'Fill, ZerosLike, OnesLike': of([2, 3], (x) => [
    tf.add(x, tf.fill([2, 1], 3)),
    tf.fill([2, 2], 4, 'int32'),
    tf.zerosLike(x),
    tf.add(x, tf.onesLike(x)),
    tf.zeros([0, 2]),
  ]),
  'Range, LinSpace': of([4], (x) => [
    tf.add(x, tf.range(0, 4)),
    tf.range(5, 1, -2, 'int32'),
    tf.range(3, 0),
    tf.range(2, 2),
    tf.range(0, 1, -1),
    tf.linspace(0, 1, 5),
    tf.linspace(2, 3, 1),
  ]),
  OneHot: {
    inputs: { ids: integers([2, 3], -1, 5) },
    fn: (t) => ({
      y: tf.oneHot(get(t, 'ids'), 4),
      custom: tf.oneHot(get(t, 'ids'), 4, 0.9, 0.1),
      integers: tf.oneHot(get(t, 'ids'), 4, 5, -1, 'int32'),
      bools: tf.oneHot(get(t, 'ids'), 4, 1, 0, 'bool'),
    }),
  },
  'tensors created by the function': of([2, 3], (x) => [
    tf.add(
      x,
      tf.tensor([
        [1, 2, 3],
        [4, 5, 6],
      ]),
    ),
    tf.where(
      tf.tensor([
        [true, false, true],
        [false, true, false],
      ]),
      x,
      tf.scalar(1),
    ),
    tf.mul(tf.cast(x, 'int32'), tf.tensor([2, 3, 4], [3], 'int32')),
    tf.tensor2d([[1, 2]]),
  ]),
};
