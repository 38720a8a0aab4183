import * as tf from '@tensorflow/tfjs-core';
import type {
  CastAttrs,
  ConcatAttrs,
  ExpandDimsAttrs,
  GatherV2Attrs,
  MirrorPadAttrs,
  PackAttrs,
  PadV2Attrs,
  ReshapeAttrs,
  ReverseAttrs,
  ScatterNdAttrs,
  SliceAttrs,
  SplitVAttrs,
  StridedSliceAttrs,
  TileAttrs,
  TransposeAttrs,
  UnpackAttrs,
  UnsortedSegmentSumAttrs,
} from '@tensorflow/tfjs-core';
import { EngineError, ShapeError } from '@peftjs/core/method';
import type { GraphBuilder, Value } from '../graph.js';
import { dtypeFor } from './creation.js';
import { indices, numberType, positive } from './kernel.js';
import type { Kernel, KernelTable, Unary } from './kernel.js';

type Many = Readonly<Record<string, Value>>;

/** Kernels that rearrange elements. */
export const shape: KernelTable = {
  Identity: (_, { x }: Unary) => x,
  Cast: (g, { x }: Unary, { dtype }: CastAttrs) => g.cast(x, dtypeFor(dtype)),
  Reshape: reshape,
  ExpandDims: (g, { input }: { readonly input: Value }, { dim }: ExpandDimsAttrs) =>
    g.reshape(input, input.shape.toSpliced(positive(dim, input.shape.length + 1), 0, 1)),
  Transpose: (g, { x }: Unary, { perm }: TransposeAttrs) => g.transpose(x, perm),
  Tile: tile,

  // slicing and splitting
  Slice: slice,
  StridedSlice: stridedSlice,
  Reverse: (g, { x }: Unary, { dims }: ReverseAttrs) => reverse(g, x, dims),
  SplitV: splitting(Infinity),
  Unpack: unpacking(Infinity),
  GatherV2: gather,
  GatherNd: gatherNd,

  // joining and padding
  Concat: (g, parts: Many, { axis }: ConcatAttrs) => concat(g, Object.values(parts), axis),
  Pack: (g, parts: Many, { axis }: PackAttrs) => pack(g, Object.values(parts), axis),
  PadV2: (g, { x }: Unary, { paddings, constantValue }: PadV2Attrs) => pad(g, x, paddings, constantValue),
  MirrorPad: mirrorPad,
  ScatterNd: scatterNd,
  UnsortedSegmentSum: segmentSum,
};

function reshape(g: GraphBuilder, { x }: Unary, { shape: given }: ReshapeAttrs): Value {
  if (!given.every(Number.isInteger)) {
    throw new ShapeError(`tf.reshape of [${x.shape.join(', ')}] to [${given.join(', ')}]: a size is missing`);
  }
  return g.reshape(x, tf.util.inferFromImplicitShape(given, tf.util.sizeFromShape([...x.shape])));
}

/** Repeating axes of length 1 is a broadcast and costs nothing. */
function tile(g: GraphBuilder, { x }: Unary, { reps }: TileAttrs): Value {
  const shape = x.shape.map((dim, axis) => dim * (reps[axis] ?? 1));
  if (x.shape.every((dim, axis) => dim === 1 || reps[axis] === 1)) return g.expand(x, shape);
  return g.node('Tile', [x, g.ints(reps)], shape);
}

function slice(g: GraphBuilder, { x }: Unary, { begin, size }: SliceAttrs): Value {
  const [starts, sizes] = tf.slice_util.parseSliceParams(x as never, begin, size) as [number[], number[]];
  if (sizes.every((dim, axis) => dim === x.shape[axis])) return x;
  const ends = starts.map((start, axis) => start + (sizes[axis] ?? 0));
  return cut(g, x, starts, ends, sizes);
}

function stridedSlice(g: GraphBuilder, { x }: Unary, at: StridedSliceAttrs): Value {
  const { finalShape, begin, end, strides } = tf.slice_util.sliceInfo(
    [...x.shape],
    at.begin,
    at.end,
    at.strides,
    at.beginMask,
    at.endMask,
    at.ellipsisMask,
    at.newAxisMask,
    at.shrinkAxisMask,
  );
  const sizes = tf.slice_util.computeOutShape(begin, end, strides);
  const ends = sizes.includes(0) ? begin : end.map((stop) => (stop < 0 ? BEFORE_FIRST : stop));
  return g.reshape(cut(g, x, begin, ends, sizes, strides), finalShape);
}

/** The end of a slice with a negative step that includes the first element; ONNX would count -1 from the back. */
const BEFORE_FIRST = -(2 ** 31);

function cut(
  g: GraphBuilder,
  x: Value,
  from: readonly number[],
  to: readonly number[],
  shape: readonly number[],
  steps: readonly number[] = from.map(() => 1),
): Value {
  return g.node('Slice', [x, g.ints(from), g.ints(to), g.ints(indices(from.length)), g.ints(steps)], shape);
}

function reverse(g: GraphBuilder, x: Value, dims: number | number[]): Value {
  const axes = tf.util.parseAxisParam(dims, [...x.shape]);
  if (axes.length === 0) return x;
  const all = (value: number): Value => g.ints(axes.map(() => value));
  return g.node('Slice', [x, all(-1), all(BEFORE_FIRST), g.ints(axes), all(-1)], x.shape);
}

/** Splits a tensor. A node gives at most `most` parts; more parts are split in several steps. */
export function splitting(most: number): Kernel<Unary, SplitVAttrs> {
  return (g, { x }, { numOrSizeSplits, axis }) => {
    const along = positive(axis, x.shape.length);
    const sizes = tf.backend_util.prepareSplitSize(x as never, numOrSizeSplits, along);
    const { rows, axis: place } = asRows(g, x, along);
    const values = parts(g, rows, { sizes, axis: place, most });
    return values.map((part, index) => g.reshape(part, x.shape.toSpliced(along, 1, sizes[index] ?? 0)));
  };
}

interface Split {
  readonly sizes: readonly number[];
  readonly axis: number;
  readonly most: number;
}

function parts(g: GraphBuilder, x: Value, { sizes, axis, most }: Split): readonly Value[] {
  if (sizes.length > most) {
    const length = Math.ceil(sizes.length / Math.min(most, Math.ceil(sizes.length / most)));
    const groups = indices(Math.ceil(sizes.length / length)).map((at) => sizes.slice(at * length, (at + 1) * length));
    const wholes = parts(g, x, { sizes: groups.map((own) => own.reduce((sum, size) => sum + size)), axis, most });
    return wholes.flatMap((whole, at) => parts(g, whole, { sizes: groups[at] ?? [], axis, most }));
  }
  const shapes = sizes.map((size) => ({ dtype: x.dtype, shape: x.shape.toSpliced(axis, 1, size) }));
  return g.nodeOf('Split', [x, g.ints(sizes)], shapes, { attributes: { axis } });
}

/** An operator along the last axis can work on the matrix `[rows, features]`, since a tensor is often held as one. */
function asRows(g: GraphBuilder, x: Value, axis: number): { rows: Value; axis: number } {
  const isLast = x.shape.length > 2 && axis === x.shape.length - 1;
  return isLast ? { rows: g.rows(x), axis: 1 } : { rows: x, axis };
}

/** Unpacks a tensor, with at most `most` outputs of a node. */
export function unpacking(most: number): Kernel<{ readonly value: Value }, UnpackAttrs> {
  return (g, { value }, { axis }) => {
    const along = positive(axis, value.shape.length);
    const sizes = indices(value.shape[along] ?? 0).map(() => 1);
    const slices = splitting(most)(g, { x: value }, { numOrSizeSplits: sizes, axis: along }) as readonly Value[]; // [.., 1, ..] each
    return slices.map((part) => g.reshape(part, value.shape.toSpliced(along, 1)));
  };
}

function concat(g: GraphBuilder, parts: readonly Value[], axis: number): Value {
  const [first] = parts;
  if (first === undefined) throw new EngineError('a concatenation needs at least one tensor');
  const along = positive(axis, first.shape.length);
  const total = parts.reduce((sum, part) => sum + (part.shape[along] ?? 0), 0);
  const { rows, axis: place } = asRows(g, first, along);
  const operands = parts.map((part) => asRows(g, part, along).rows);
  const joined = g.node('Concat', operands, rows.shape.toSpliced(place, 1, total), { attributes: { axis: place } });
  return g.reshape(joined, first.shape.toSpliced(along, 1, total));
}

function pack(g: GraphBuilder, parts: readonly Value[], axis: number): Value {
  const along = positive(axis, (parts[0]?.shape.length ?? 0) + 1);
  const slices = parts.map((part) => g.reshape(part, part.shape.toSpliced(along, 0, 1))); // [.., 1, ..] each
  return concat(g, slices, along);
}

function pad(
  g: GraphBuilder,
  x: Value,
  paddings: readonly (readonly [number, number])[],
  value: number,
  mode = 'constant',
): Value {
  const shape = x.shape.map((dim, axis) => dim + (paddings[axis]?.[0] ?? 0) + (paddings[axis]?.[1] ?? 0));
  const amounts = g.ints([...paddings.map(([before]) => before), ...paddings.map(([, after]) => after)]);
  const filler = mode === 'constant' ? [g.scalar(value, dtypeFor(x.dtype))] : [];
  return g.node('Pad', [x, amounts, ...filler], shape, { attributes: { mode } });
}

function mirrorPad(g: GraphBuilder, { x }: Unary, { paddings, mode }: MirrorPadAttrs): Value {
  if (mode === 'reflect') return pad(g, x, paddings, 0, mode);
  throw new EngineError(`tf.mirrorPad can only be compiled with mode 'reflect', got '${mode}'; use the eager executor`);
}

/** Rows of `x` along an axis; the first `batchDims` axes of x and indices are paired. */
function gather(g: GraphBuilder, { x, indices: at }: Unary & { readonly indices: Value }, attrs: GatherV2Attrs): Value {
  const { batchDims } = attrs;
  const axis = positive(attrs.axis, x.shape.length);
  const rows = at.dtype === 'float32' ? g.cast(at, 'int32') : at;
  const shape = x.shape.toSpliced(axis, 1, ...at.shape.slice(batchDims));
  if (batchDims === 0) return g.node('Gather', [x, rows], shape, { attributes: { axis } });
  if (batchDims !== axis) {
    throw new EngineError(
      `tf.gather can only be compiled with batchDims = axis, got ${batchDims} and ${axis}; transpose first`,
    );
  }
  const tuples = g.cast(g.reshape(rows, [...rows.shape, 1]), 'int64'); // [.., 1]
  return g.node('GatherND', [x, tuples], shape, { attributes: { batch_dims: batchDims } });
}

/** Slices of `params` at index tuples: `[.., depth]` -> `[.., ..params.shape after depth]`. */
function gatherNd(
  g: GraphBuilder,
  { params, indices: at }: { readonly params: Value; readonly indices: Value },
): Value {
  const depth = at.shape.at(-1) ?? 0;
  return g.node('GatherND', [params, g.cast(at, 'int64')], [...at.shape.slice(0, -1), ...params.shape.slice(depth)]);
}

/** Zeros with `updates` added at index tuples `[.., depth]`. */
function scatterNd(
  g: GraphBuilder,
  inputs: { readonly indices: Value; readonly updates: Value },
  at: ScatterNdAttrs,
): Value {
  const depth = inputs.indices.shape.at(-1) ?? 0;
  const leading = at.shape.slice(0, depth);
  const strides = leading.map((_, axis) => tf.util.sizeFromShape(leading.slice(axis + 1)));
  const tuples = g.cast(g.reshape(inputs.indices, [rowsOf(inputs.indices), depth]), 'int32');
  const weighted = g.zip('Mul', tuples, g.constant(Int32Array.from(strides), 'int32', [depth])); // [rows, depth]
  const flat = g.node('ReduceSum', [weighted, g.ints([1])], [rowsOf(inputs.indices)], { attributes: { keepdims: 0 } }); // [rows]
  return g.reshape(addRows(g, flat, inputs.updates, tf.util.sizeFromShape(leading), at.shape.slice(depth)), at.shape);
}

function rowsOf(tuples: Value): number {
  return tf.util.sizeFromShape(tuples.shape.slice(0, -1));
}

/** Rows of `x` `[ids.., ..row]` summed by segment -> `[numSegments, ..row]`, without ids outside [0, numSegments). */
function segmentSum(
  g: GraphBuilder,
  { x, segmentIds }: Unary & { readonly segmentIds: Value },
  at: UnsortedSegmentSumAttrs,
): Value {
  const { numSegments } = at;
  const row = x.shape.slice(segmentIds.shape.length);
  const ids = g.reshape(segmentIds, [tf.util.sizeFromShape([...segmentIds.shape])]);
  const last = g.scalar(numSegments - 1, 'int32');
  const inside = g.zip('Max', g.zip('Min', ids, last), g.scalar(0, 'int32'));
  const isInside = g.reshape(g.zip('Equal', inside, ids, { dtype: 'bool' }), [...ids.shape, ...row.map(() => 1)]);
  const kept = g.where(isInside, g.reshape(x, [...ids.shape, ...row]), g.scalar(0, numberType(x)));
  return addRows(g, inside, kept, numSegments, row);
}

/**
 * `total[ids[i]] += rows[i]`. ScatterElements adds in order; with ScatterND, threads may write to the same row at once.
 */
function addRows(g: GraphBuilder, ids: Value, rows: Value, count: number, row: readonly number[]): Value {
  const width = tf.util.sizeFromShape([...row]);
  const updates = g.reshape(rows, [...ids.shape, width]); // [n, width]
  const places = g.expand(g.reshape(ids, [...ids.shape, 1]), updates.shape); // [n, width]
  const zeros = g.expand(g.scalar(0, numberType(rows)), [count, width]);
  const total = g.node('ScatterElements', [zeros, places, updates], [count, width], {
    attributes: { axis: 0, reduction: 'add' },
  });
  return g.reshape(total, [count, ...row]);
}
