import * as tf from '@tensorflow/tfjs-core';
import type { CumsumAttrs, MaxAttrs, SoftmaxAttrs, SumAttrs, TopKAttrs } from '@tensorflow/tfjs-core';
import { isView } from '../graph.js';
import type { GraphBuilder, Value } from '../graph.js';
import { indices, numberType, numeric, positive } from './kernel.js';
import type { Kernel, KernelTable, Unary } from './kernel.js';

/** Kernels that reduce or scan along axes. */
export const reductions: KernelTable = {
  Sum: (g, { x }: Unary, at: SumAttrs) => reduce(g, 'ReduceSum', numeric(g, x), at.axis, at.keepDims),
  Mean: (g, { x }: Unary, at: SumAttrs) => reduce(g, 'ReduceMean', g.cast(x, 'float32'), at.axis, at.keepDims),
  Prod: (g, { x }: Unary, at: SumAttrs) => reduce(g, 'ReduceProd', numeric(g, x), at.axis, at.keepDims),
  Max: (g, { x }: Unary, at: MaxAttrs) =>
    through(g, x, (y) => reduce(g, 'ReduceMax', y, at.reductionIndices, at.keepDims)),
  Min: (g, { x }: Unary, at: SumAttrs) => through(g, x, (y) => reduce(g, 'ReduceMin', y, at.axis, at.keepDims)),
  All: (g, { x }: Unary, at: SumAttrs) => through(g, x, (y) => reduce(g, 'ReduceMin', y, at.axis, at.keepDims)),
  Any: (g, { x }: Unary, at: SumAttrs) => through(g, x, (y) => reduce(g, 'ReduceMax', y, at.axis, at.keepDims)),
  ArgMax: extremum('ArgMax'),
  ArgMin: extremum('ArgMin'),
  TopK: topK,
  Softmax: (g, { logits }: { readonly logits: Value }, { dim }: SoftmaxAttrs) =>
    g.node('Softmax', [logits], logits.shape, { attributes: { axis: positive(dim, logits.shape.length) } }),
  Cumsum: cumsum,
  Cumprod: cumprod,
};

/** A reduction over axes; over no axes it returns the tensor itself. */
function reduce(g: GraphBuilder, op: string, x: Value, axis: number | number[], keepDims: boolean): Value {
  const axes = tf.util.parseAxisParam(axis, [...x.shape]);
  if (axes.length === 0) return x;
  const isAlongRows = axes.length === 1 && axes[0] === x.shape.length - 1 && keepDims && isView(x.onnxShape, x.shape);
  const shape = keepDims
    ? x.shape.map((dim, index) => (axes.includes(index) ? 1 : dim))
    : x.shape.filter((_, index) => !axes.includes(index));
  if (isAlongRows) return g.reshape(reduce(g, op, g.rows(x), 1, true), shape);
  return g.node(op, [x, g.ints(axes)], shape, { attributes: { keepdims: keepDims ? 1 : 0 } });
}

/** Applies `body` to numbers and casts the result back to the type of `x`. */
function through(g: GraphBuilder, x: Value, body: (x: Value) => Value): Value {
  return g.cast(body(numeric(g, x)), x.dtype);
}

function extremum(op: string): Kernel<Unary, { axis: number | number[] }> {
  return (g, { x }, { axis }) => {
    const [first = 0] = tf.util.parseAxisParam(axis, [...x.shape]);
    const attributes = { axis: first, keepdims: 0 };
    return g.cast(g.node(op, [numeric(g, x)], x.shape.toSpliced(first, 1), { dtype: 'int64', attributes }), 'int32');
  };
}

/** The k largest values along the last axis, and their positions. */
function topK(g: GraphBuilder, { x }: Unary, { k, sorted }: TopKAttrs): Value[] {
  const last = x.shape.length - 1;
  const shape = x.shape.toSpliced(last, 1, k);
  const attributes = { axis: last, sorted: sorted ? 1 : 0 };
  const outputs = [x.dtype, 'int64' as const].map((dtype) => ({ dtype, shape }));
  const [values, places] = g.nodeOf('TopK', [x, g.ints([k])], outputs, { attributes }) as [Value, Value];
  return [values, g.cast(places, 'int32')];
}

function cumsum(g: GraphBuilder, { x }: Unary, { axis, exclusive, reverse }: CumsumAttrs): Value {
  const along = g.constant(Int32Array.of(positive(axis, x.shape.length)), 'int32', []);
  const attributes = { exclusive: exclusive ? 1 : 0, reverse: reverse ? 1 : 0 };
  return g.node('CumSum', [x, along], x.shape, { attributes });
}

/**
 * ONNX has no cumulative product: the axis is copied once for each output element, and a triangular mask selects its
 * factors.
 */
function cumprod(g: GraphBuilder, { x }: Unary, { axis, exclusive, reverse }: CumsumAttrs): Value {
  const along = positive(axis, x.shape.length);
  const length = x.shape[along] ?? 1;
  const isFactor = (of: number, at: number): boolean =>
    exclusive && of === at ? false : reverse ? of >= at : of <= at;
  const mask = Uint8Array.from(indices(length * length), (cell) =>
    Number(isFactor(cell % length, Math.floor(cell / length))),
  );
  const trailing = x.shape.slice(along + 1).map(() => 1);
  const copies = g.reshape(x, x.shape.toSpliced(along, 1, 1, length)); // [.., 1, of, ..]
  const factors = g.constant(mask, 'bool', [length, length, ...trailing]); // [at, of, 1, ..]
  const ones = g.scalar(1, numberType(x));
  return reduce(g, 'ReduceProd', g.where(factors, copies, ones), along + 1, false);
}
