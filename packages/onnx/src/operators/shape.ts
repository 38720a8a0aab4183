import { CheckpointError, ShapeError, sizeOf, UnsupportedError } from '@peftjs/core/method';
import * as tf from '@tensorflow/tfjs-core';
import type { Tensor } from '@tensorflow/tfjs-core';
import type { Constant } from '../format/tensor.js';
import { TYPES } from '../format/tensor.js';
import {
  axisOf,
  broadcastTo,
  checkedShape,
  dtypeOf,
  hostInts,
  isHost,
  kindOf,
  MAX_ON_HOST,
  numbersOf,
  picked,
  tensorOf,
  type HostArray,
  type Value,
} from '../values.js';
import {
  assertBound,
  hosts,
  input,
  listIn,
  made,
  numberIn,
  numbersIn,
  tensor,
  textIn,
  type Call,
  type Inputs,
  type OperatorTable,
} from './operator.js';

/** Operators that measure, make and rearrange tensors. */
export const shape: OperatorTable = {
  Shape: made('int', shapeOf),
  Size: made('int', (inputs) => ({
    ...sizesOf(input(inputs, 0)),
    shape: [],
    data: [sizeOf(input(inputs, 0).shape)],
  })),

  // of the same elements
  Reshape: reshape,
  Flatten: flatten,
  Squeeze: squeeze,
  Unsqueeze: unsqueeze,
  Transpose: transpose,

  // joined and cut
  Concat: concat,
  Split: split,
  Slice: slice,
  Pad: pad,

  // gathered
  Gather: gather,
  GatherElements: gatherElements,
  GatherND: gatherNd,

  // repeated and made
  Expand: expand,
  Tile: (inputs) => tf.tile(tensor(inputs, 0), checkedShape(numbersOf(inputs[1], 'repeats'))),
  ConstantOfShape: constantOfShape,
  Range: range,
  Trilu: trilu,
};

/** The sizes of a tensor may differ from batch to batch; those of a host array do not. */
function sizesOf(x: Value): HostArray {
  return hostInts(x.shape, !isHost(x));
}

function shapeOf(inputs: Inputs, call: Call): HostArray {
  const sizes = sizesOf(input(inputs, 0));
  return hostInts(sizes.data.slice(numberIn(call, 'start', 0), numberIn(call, 'end', sizes.data.length)), sizes.varies);
}

/** The same elements in another shape. */
function shaped(x: Value, to: readonly number[]): Value {
  if (isHost(x)) return { ...x, shape: to };
  return to.length === x.rank && to.every((dim, axis) => dim === x.shape[axis]) ? x : tf.reshape(x, [...to]);
}

function reshape(inputs: Inputs, call: Call): Value {
  const [x, to] = [input(inputs, 0), input(inputs, 1)];
  const keepsZeros = numberIn(call, 'allowzero', 0) === 1;
  const dims = numbersOf(to, 'the new shape').map((dim, axis) =>
    dim === 0 && !keepsZeros ? (x.shape[axis] ?? 0) : dim,
  );
  const rest = dims.reduce((product, dim) => (dim === -1 ? product : product * dim), 1);
  const whole = dims.map((dim) => (dim === -1 ? sizeOf(x.shape) / Math.max(rest, 1) : dim));
  if (sizeOf(checkedShape(whole)) !== sizeOf(x.shape)) {
    const [from, into] = [x.shape, dims].map((sizes) => sizes.join(', '));
    throw new CheckpointError(
      `[${from}] does not have the elements of [${into}]; if a number of rows is built in, export with dynamic_axes`,
    );
  }
  // The length of a host array does not vary, but its shape would.
  return shaped(isHost(x) && isHost(to) && to.varies ? tensorOf(x) : x, whole);
}

function flatten(inputs: Inputs, call: Call): Value {
  const x = tensor(inputs, 0);
  const axis = numberIn(call, 'axis', 1);
  const rows = sizeOf(x.shape.slice(0, axis));
  return tf.reshape(x, [rows, sizeOf(x.shape) / Math.max(rows, 1)]);
}

function squeeze(inputs: Inputs, call: Call): Value {
  const x = input(inputs, 0);
  const axes = listIn(inputs, 1, call, 'axes')?.map((axis) => axisOf(axis, x.shape.length));
  const kept = x.shape.filter((dim, axis) => (axes ? !axes.includes(axis) : dim !== 1));
  return shaped(x, kept);
}

function unsqueeze(inputs: Inputs, call: Call): Value {
  const x = input(inputs, 0);
  const given = listIn(inputs, 1, call, 'axes') ?? [];
  const rank = x.shape.length + given.length;
  const axes = given.map((axis) => axisOf(axis, rank));
  const rest = [...x.shape];
  const dims = Array.from({ length: rank }, (_, axis) => (axes.includes(axis) ? 1 : (rest.shift() as number)));
  return shaped(x, dims);
}

function transpose(inputs: Inputs, call: Call): Value {
  const x = input(inputs, 0);
  const order = numbersIn(call, 'perm') ?? [...x.shape.keys()].toReversed();
  if (!isHost(x)) return tf.transpose(x, [...order]);
  return picked(
    x,
    order.map((axis) => x.shape[axis] as number),
    (index) => x.shape.map((_, axis) => index[order.indexOf(axis)] as number),
  );
}

function concat(inputs: Inputs, call: Call): Value {
  const parts = inputs.filter((value) => value !== undefined);
  const [first = input(inputs, 0)] = parts;
  const axis = axisOf(numberIn(call, 'axis', 0), first.shape.length);
  const all = hosts(parts);
  if (all && first.shape.length === 1) {
    checkedShape([all.reduce((sum, { data }) => sum + data.length, 0)], MAX_ON_HOST);
    const [data, varies] = [all.flatMap((part) => part.data), all.some((part) => part.varies)];
    return { ...hostInts(data, varies), kind: kindOf(first) };
  }
  return parts.length < 2 ? first : tf.concat(parts.map(tensorOf), axis);
}

function split(inputs: Inputs, call: Call): readonly Value[] {
  const x = tensor(inputs, 0);
  const axis = axisOf(numberIn(call, 'axis', 0), x.rank);
  const length = x.shape[axis] as number;
  const given = listIn(inputs, 1, call, 'split');
  if (given) return tf.split(x, [...given], axis);
  const count = numberIn(call, 'num_outputs', call.outputs);
  const size = Math.ceil(length / count);
  const sizes = Array.from({ length: count }, (_, part) => Math.min(size, length - part * size));
  return tf.split(x, sizes, axis);
}

/** The part of an axis that a slice reads: its first element, the number of elements, and the step. */
interface Part {
  readonly start: number;
  readonly count: number;
  readonly step: number;
}

function slice(inputs: Inputs, call: Call): Value {
  const x = input(inputs, 0);
  const [starts, ends, axes, steps] = [1, 2, 3, 4].map((index) =>
    inputs[index] === undefined ? undefined : numbersOf(inputs[index], 'a bound of a slice'),
  );
  const isFixed = inputs.slice(1).every((value) => value === undefined || (isHost(value) && !value.varies));
  const parts: Part[] = x.shape.map((dim) => ({ start: 0, count: dim, step: 1 }));
  (starts ?? []).forEach((start, index) => {
    const axis = axisOf(axes?.[index] ?? index, x.shape.length);
    const [dim, end] = [x.shape[axis] as number, ends?.[index] ?? 0];
    if (isFixed && !isHost(x)) for (const bound of [start, end]) assertBound(dim, bound, call);
    parts[axis] = partOf(dim, start, end, steps?.[index] ?? 1);
  });
  if (!isFixed) assertWithin(x, starts ?? [], ends ?? [], axes);
  if (!isHost(x) || !isFixed) return cut(tensorOf(x), parts);
  return picked(
    x,
    parts.map(({ count }) => count),
    (index) => parts.map(({ start, step }, axis) => start + step * (index[axis] as number)),
  );
}

/**
 * Whether bounds are cut to the size of an axis would depend on the sizes of the batch, so a slice whose bounds follow
 * from these must be within its tensor, e.g. that of a table of positions.
 */
function assertWithin(
  x: Value,
  starts: readonly number[],
  ends: readonly number[],
  axes: readonly number[] = [...starts.keys()],
): void {
  axes.forEach((axis, place) => {
    const dim = x.shape[axisOf(axis, x.shape.length)] as number;
    const end = ends[place] as number;
    if (end <= dim || end >= TO_THE_END) return;
    throw new ShapeError(`a slice up to ${end} of an axis of ${dim}: the text is too long for the model`);
  });
}

/** Bounds that mean the end of an axis are the largest numbers of int32 or int64. */
const TO_THE_END = 2 ** 31 - 1;

/** Negative bounds count from the end, and bounds beyond an end are the end. */
function partOf(dim: number, from: number, to: number, step: number): Part {
  if (step === 0) throw new CheckpointError('a slice with step 0');
  const most = step > 0 ? dim : dim - 1;
  const within = (bound: number, least: number): number =>
    Math.max(least, Math.min(most, bound < 0 ? bound + dim : bound));
  const [start, end] = [within(from, Math.min(0, most)), within(to, step > 0 ? 0 : -1)];
  return { start, count: Math.max(0, Math.ceil((end - start) / step)), step };
}

function cut(x: Tensor, parts: readonly Part[]): Tensor {
  const lows = parts.map(({ start, count, step }) => (step > 0 ? start : start + (count - 1) * step));
  const spans = parts.map(({ count, step }) => (count === 0 ? 0 : (count - 1) * Math.abs(step) + 1));
  const isWhole = parts.every(({ count, step }, axis) => count === x.shape[axis] && step === 1);
  if (isWhole) return x;
  const starts = lows.map((low, axis) => (spans[axis] === 0 ? 0 : low));
  const block = tf.slice(x, starts, spans);
  const turned = parts.flatMap(({ step }, axis) => (step < 0 ? [axis] : []));
  const ordered = turned.length > 0 ? tf.reverse(block, turned) : block;
  const steps = parts.map(({ step }) => Math.abs(step));
  const isDense = steps.every((step) => step === 1);
  return isDense ? ordered : tf.stridedSlice(ordered, Array<number>(steps.length).fill(0), spans, steps);
}

function pad(inputs: Inputs, call: Call): Tensor {
  const x = tensor(inputs, 0);
  const amounts = numbersOf(inputs[1], 'pads');
  const axes = listIn(inputs, 3, call, 'axes')?.map((axis) => axisOf(axis, x.rank)) ?? [...x.shape.keys()];
  const mode = textIn(call, 'mode', 'constant');
  if (mode !== 'constant' || amounts.some((amount) => amount < 0))
    throw new UnsupportedError(`padding with mode '${mode}' and ${amounts.join(', ')}`);
  const paddings = x.shape.map((_, axis): [number, number] => {
    const place = axes.indexOf(axis);
    return place < 0 ? [0, 0] : [amounts[place] ?? 0, amounts[axes.length + place] ?? 0];
  });
  return tf.pad(x, paddings, inputs[2] === undefined ? 0 : (numbersOf(inputs[2], 'the value of padding')[0] ?? 0));
}

/** Slices at indices along an axis; indices below zero count from the end. */
function gather(inputs: Inputs, call: Call): Value {
  const [x, at] = [input(inputs, 0), input(inputs, 1)];
  const axis = axisOf(numberIn(call, 'axis', 0), x.shape.length);
  if (isHost(x) && isHost(at)) {
    const dim = x.shape[axis] as number;
    const places = at.data.map((place) => axisOf(place, dim));
    const shape = x.shape.toSpliced(axis, 1, ...at.shape);
    const picking = (index: readonly number[]): number[] => {
      const flat = at.shape.reduce((sum, size, each) => sum * size + (index[axis + each] as number), 0);
      return [...index.slice(0, axis), places[flat] as number, ...index.slice(axis + at.shape.length)];
    };
    return { ...picked(x, shape, picking), varies: x.varies || at.varies };
  }
  const table = tensorOf(x);
  const dim = table.shape[axis] as number;
  const places = isHost(at)
    ? tensorOf({ ...at, data: at.data.map((place) => axisOf(place, dim)) })
    : wrapped(at, tf.scalar(dim, 'int32'));
  return tf.gather(table, places, axis);
}

/** The element at each index along one axis, whose other coordinates are those of the index. */
function gatherElements(inputs: Inputs, call: Call): Tensor {
  const [x, at] = [tensor(inputs, 0), tensor(inputs, 1)];
  const axis = axisOf(numberIn(call, 'axis', 0), x.rank);
  const places = x.shape.map((_, each) => (each === axis ? at : along(each, at.shape)));
  return gatheredAt(x, tf.stack(places, x.rank));
}

/** The index along one axis, for each element of a shape. */
function along(axis: number, dims: readonly number[]): Tensor {
  const numbers = tf.range(0, dims[axis] as number, 1, 'int32');
  const aligned = dims.map((_, each) => (each === axis ? -1 : 1));
  return tf.broadcastTo(tf.reshape(numbers, aligned), [...dims]);
}

/** Counts indices below zero from the end; `dims` are the lengths of the axes. */
function wrapped(at: Tensor, dims: Tensor): Tensor {
  return tf.where(tf.less(at, tf.scalar(0, 'int32')), tf.add(at, dims), at);
}

/** Slices at index tuples, `[.., depth]`; the first `batch_dims` axes of both are paired. */
function gatherNd(inputs: Inputs, call: Call): Tensor {
  const [x, at] = [tensor(inputs, 0), tensor(inputs, 1)];
  const paired = numberIn(call, 'batch_dims', 0);
  const own = Array.from({ length: paired }, (_, axis) => tf.expandDims(along(axis, at.shape.slice(0, -1)), -1));
  return gatheredAt(x, own.length === 0 ? at : tf.concat([...own, at], at.rank - 1));
}

/** Slices at index tuples, read as rows of a matrix: that has a gradient. */
function gatheredAt(x: Tensor, at: Tensor): Tensor {
  const depth = at.shape.at(-1) as number;
  const lead = x.shape.slice(0, depth);
  const strides = lead.map((_, axis) => sizeOf(lead.slice(axis + 1)));
  const places = wrapped(at, tf.tensor1d(lead, 'int32'));
  const rows = tf.sum(tf.mul(places, tf.tensor1d(strides, 'int32')), -1);
  return tf.gather(tf.reshape(x, [sizeOf(lead), ...x.shape.slice(depth)]), rows);
}

function expand(inputs: Inputs): Value {
  const [x, to] = [input(inputs, 0), input(inputs, 1)];
  const dims = [...numbersOf(to, 'the new shape')];
  const shape = checkedShape(tf.broadcast_util.assertAndGetBroadcastShape([...x.shape], dims));
  if (isHost(x) && isHost(to) && !to.varies && sizeOf(shape) <= MOST_ON_HOST) return broadcastTo(x, shape);
  const value = tensorOf(x);
  // The gradient of a broadcast has as many nodes as repetitions, and none above four axes; that of a product is a sum.
  return value.dtype === 'float32' ? tf.mul(value, tf.ones(shape)) : tf.broadcastTo(value, shape);
}

/** The most elements of an array that is computed on the host. */
const MOST_ON_HOST = 256;

function constantOfShape(inputs: Inputs, { attributes }: Call): Value {
  const to = input(inputs, 0);
  const shape = checkedShape(numbersOf(to, 'the shape'));
  const filler = attributes['value'] as Constant | undefined;
  const value = filler?.numbers()[0] ?? 0;
  const kind = filler === undefined ? 'float' : TYPES[filler.type].kind;
  if (isHost(to) && !to.varies && sizeOf(shape) <= MOST_ON_HOST) {
    return { kind, shape, data: Array<number>(sizeOf(shape)).fill(value), varies: false };
  }
  return tf.fill(shape, value, dtypeOf(kind));
}

function range(inputs: Inputs): Value {
  const bounds = [0, 1, 2].map((index) => input(inputs, index)) as [Value, Value, Value];
  const [start, limit, step] = bounds.map((bound) => numbersOf(bound, 'a bound of a range')[0] ?? 0) as [
    number,
    number,
    number,
  ];
  const count = Math.max(0, Math.ceil((limit - start) / step));
  const [kind, varies] = [kindOf(bounds[0]), bounds.some((bound) => isHost(bound) && bound.varies)];
  checkedShape([count]);
  if (!varies && count <= MOST_ON_HOST) {
    const data = Array.from({ length: count }, (_, index) => start + index * step);
    return { ...hostInts(data, false), kind };
  }
  return tf.range(start, start + count * step, step, kind === 'float' ? 'float32' : 'int32');
}

/** The part of matrices on and above a diagonal, or on and below it; the rest is zero. */
function trilu(inputs: Inputs, call: Call): Tensor {
  const x = tensor(inputs, 0);
  const k = inputs[1] === undefined ? 0 : (numbersOf(inputs[1], 'k')[0] ?? 0);
  const [rows, columns] = x.shape.slice(-2) as [number, number];
  const ahead = tf.sub(tf.range(0, columns, 1, 'int32'), tf.reshape(tf.range(0, rows, 1, 'int32'), [rows, 1]));
  const isKept = (numberIn(call, 'upper', 1) === 1 ? tf.greaterEqual : tf.lessEqual)(ahead, tf.scalar(k, 'int32'));
  return tf.where(isKept, x, tf.zerosLike(x)); // a product would make the infinities of a mask undefined
}
