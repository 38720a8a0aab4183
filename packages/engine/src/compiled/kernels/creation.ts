import type { FillAttrs, LinSpaceAttrs, OneHotAttrs, RangeAttrs } from '@tensorflow/tfjs-core';
import { EngineError } from '@peftjs/core/method';
import { typedArray } from '../graph.js';
import type { GraphBuilder, Value } from '../graph.js';
import type { ValueType } from '../parts.js';
import { indices } from './kernel.js';
import type { KernelTable, Unary } from './kernel.js';

/** Kernels that create tensors from numbers known at tracing time. */
export const creation: KernelTable = {
  Fill: (g, _: unknown, { shape, value, dtype }: FillAttrs) => filled(g, Number(value), dtypeFor(dtype), shape),
  ZerosLike: (g, { x }: Unary) => filled(g, 0, dtypeFor(x.dtype), x.shape),
  OnesLike: (g, { x }: Unary) => filled(g, 1, dtypeFor(x.dtype), x.shape),
  Range: range,
  LinSpace: (g, _: unknown, { start, stop, num }: LinSpaceAttrs) =>
    vector(
      g,
      indices(num).map((index) => (num === 1 ? start : start + (index * (stop - start)) / (num - 1))),
      'float32',
    ),
  OneHot: oneHot,
};

/** Checks the element type of a trace. @throws EngineError for strings and complex numbers. */
export function dtypeFor(dtype: string): ValueType {
  if (dtype === 'float32' || dtype === 'int32' || dtype === 'bool') return dtype;
  throw new EngineError(
    `a compiled function supports float32, int32 and bool tensors, got ${dtype}; use the eager executor`,
  );
}

function filled(g: GraphBuilder, value: number, dtype: ValueType, shape: readonly number[]): Value {
  return g.expand(g.scalar(value, dtype), shape);
}

function vector(g: GraphBuilder, values: readonly number[], dtype: ValueType): Value {
  return g.constant(typedArray(values, dtype), dtype, [values.length]);
}

/**
 * Numbers from `start` up to but excluding `stop`; empty when the step leads away from it. As in TensorFlow.js, a step
 * of 1, the default, becomes -1 where `stop` is below `start`.
 */
function range(g: GraphBuilder, _: unknown, { start, stop, step, dtype }: RangeAttrs): Value {
  const stride = stop < start && step === 1 ? -1 : step;
  const count = Math.max(0, Math.ceil((stop - start) / stride));
  return vector(
    g,
    indices(count).map((index) => start + index * stride),
    dtypeFor(dtype),
  );
}

/** `[..]` -> `[.., depth]`. */
function oneHot(g: GraphBuilder, { indices: hot }: { readonly indices: Value }, at: OneHotAttrs): Value {
  const { depth, onValue, offValue } = at;
  const dtype = dtypeFor(at.dtype);
  const places = g.reshape(g.cast(hot, 'int32'), [...hot.shape, 1]); // [.., 1]
  const isHot = g.zip('Equal', places, vector(g, indices(depth), 'int32'), { dtype: 'bool' }); // [.., depth]
  const type = dtype === 'float32' ? 'float32' : 'int32'; // ONNX Runtime selects no bools
  return g.cast(g.where(isHot, g.scalar(onValue, type), g.scalar(offValue, type)), dtype);
}
