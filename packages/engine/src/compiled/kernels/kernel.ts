import type { GraphBuilder, Value, ValueType } from '../graph.js';

/**
 * What a TensorFlow.js kernel becomes: it computes nothing, it adds nodes to the graph and says what shape comes out.
 * Each names the inputs and attributes it reads; TensorFlow.js hands them over by these names.
 */
export type Kernel<Inputs = never, Attributes = never> = (
  g: GraphBuilder,
  inputs: Inputs,
  attributes: Attributes,
) => Value | readonly Value[];

/** Kernels by the name under which TensorFlow.js calls them. */
export type KernelTable = Readonly<Record<string, Kernel>>;

/** Inputs of a kernel of one tensor. */
export interface Unary {
  readonly x: Value;
}

/** Inputs of a kernel of two tensors. */
export interface Binary {
  readonly a: Value;
  readonly b: Value;
}

/** An axis counted from the front. */
export function positive(axis: number, rank: number): number {
  return axis < 0 ? axis + rank : axis;
}

/** A shape with one axis replaced by none, one or several. */
export function spliced(shape: readonly number[], axis: number, ...dims: readonly number[]): number[] {
  return [...shape.slice(0, axis), ...dims, ...shape.slice(axis + 1)];
}

/** 0, 1, .., length - 1. */
export function indices(length: number): number[] {
  return Array.from({ length }, (_, index) => index);
}

/** The type of a constant that meets `x` in arithmetic. */
export function numberType(x: Value): ValueType {
  return x.dtype === 'float32' ? 'float32' : 'int32';
}
