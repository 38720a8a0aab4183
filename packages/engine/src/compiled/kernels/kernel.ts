import type { FusedKernels } from '@peftjs/core/nn';
import type { GraphBuilder, Value } from '../graph.js';
import type { ValueType } from '../parts.js';

/**
 * Translates a TensorFlow.js kernel: adds nodes to the graph and returns the resulting value or values. Each kernel
 * names the inputs and attributes that it reads; TensorFlow.js passes them by these names.
 */
export type Kernel<Inputs = never, Attributes = never> = (
  g: GraphBuilder,
  inputs: Inputs,
  attributes: Attributes,
) => Value | readonly Value[];

/** Kernels by their TensorFlow.js names. */
export type KernelTable = Readonly<Record<string, Kernel>>;

/** A translation of each of core's fused kernels: one that is missing, misspelt or reads something else is an error. */
export type FusedTable = {
  readonly [K in keyof FusedKernels<Value>]: (
    g: GraphBuilder,
    ...given: Parameters<FusedKernels<Value>[K]>
  ) => ReturnType<FusedKernels<Value>[K]>;
};

/** The domain of ONNX Runtime's own operators. */
export const MICROSOFT = 'com.microsoft';

/** Inputs of a kernel with one tensor. */
export interface Unary {
  /** The operand. */
  readonly x: Value;
}

/** Inputs of a kernel with two tensors. */
export interface Binary {
  /** The first operand. */
  readonly a: Value;
  /** The second operand. */
  readonly b: Value;
}

/** Converts an axis that may count from the back to one that counts from the front. */
export function positive(axis: number, rank: number): number {
  return axis < 0 ? axis + rank : axis;
}

/** 0, 1, .., length - 1. */
export function indices(length: number): number[] {
  return Array.from({ length }, (_, index) => index);
}

/** Converts bools to integers. */
export function numeric(g: GraphBuilder, x: Value): Value {
  return x.dtype === 'bool' ? g.cast(x, 'int32') : x;
}

/** The element type of a constant that is combined with `x` in arithmetic. */
export function numberType(x: Value): ValueType {
  return x.dtype === 'float32' ? 'float32' : 'int32';
}
