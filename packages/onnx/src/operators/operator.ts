import type { Scope } from '@peftjs/core/model';
import type { Tensor } from '@tensorflow/tfjs-core';
import { UnsupportedError } from '@peftjs/core/method';
import type { Attribute } from '../format/model.js';
import type { Kind } from '../format/tensor.js';
import { isHost, numbersOf, tensorOf, type HostArray, type Value } from '../values.js';

/** What an operator reads besides its inputs. */
export interface Call {
  /** The attributes of the node, by name. */
  readonly attributes: Readonly<Record<string, Attribute>>;
  /** The version of ONNX's operators that the file uses. */
  readonly opset: number;
  /** The number of outputs that the node names. */
  readonly outputs: number;
  /** The most tokens of a text. */
  readonly maxTokens: number;
  /** Reaches the model's modules. */
  readonly scope: Scope;
}

/** The inputs of a node; one that it leaves out is undefined. */
export type Inputs = readonly (Value | undefined)[];

/**
 * Computes the outputs of a node from its inputs, of which optional ones may be undefined. Values that are known while
 * tracing are host arrays: `tensorOf` makes a tensor of one.
 */
export interface Operator {
  (inputs: Inputs, call: Call): Value | readonly Value[];
  /** The kind of its outputs, where that is not the kind of an input. */
  readonly kind?: Kind | undefined;
}

/** Operators by name. */
export type OperatorTable = Readonly<Record<string, Operator>>;

/** Notes the kind of an operator's outputs. */
export function made(kind: Kind | undefined, operator: Operator): Operator {
  return Object.assign(operator, { kind });
}

/** Makes an operator refuse other values of its options than those that it is computed for. */
export function only(known: Readonly<Record<string, number>>, operator: Operator): Operator {
  return made(operator.kind, (inputs, call) => {
    const odd = Object.entries(known).find(([name, value]) => numberIn(call, name, value) !== value);
    if (!odd) return operator(inputs, call);
    throw new UnsupportedError(`${odd[0]} is ${numberIn(call, odd[0], odd[1])}; only ${odd[1]} is known`);
  });
}

/**
 * A step is traced at a few sizes and then serves all: which of a size and a bound is less may not depend on the text.
 * @throws UnsupportedError when the size is less, but that of a longer text may not be.
 */
export function assertBound(size: number, bound: number, { maxTokens }: Call): void {
  const most = Math.abs(bound);
  if (size >= most || most >= maxTokens) return;
  throw new UnsupportedError(
    `the bound ${bound} cuts some texts of up to ${maxTokens} tokens only: set maxTokens to at most ${most}`,
  );
}

/** Returns an attribute that is a number. */
export function numberIn({ attributes }: Pick<Call, 'attributes'>, name: string, fallback: number): number {
  const value = attributes[name];
  return typeof value === 'number' ? value : fallback;
}

/** Returns an attribute that is a list of numbers; undefined where the node does not have it. */
export function numbersIn({ attributes }: Pick<Call, 'attributes'>, name: string): readonly number[] | undefined {
  const value = attributes[name];
  return Array.isArray(value) && value.every((item) => typeof item === 'number') ? value : undefined;
}

/** Returns numbers of an optional input, or of the attribute that earlier opsets have in its place. */
export function listIn(inputs: Inputs, index: number, call: Call, name: string): readonly number[] | undefined {
  return inputs[index] === undefined ? numbersIn(call, name) : numbersOf(inputs[index], name);
}

/** Returns an attribute that is a text. */
export function textIn({ attributes }: Pick<Call, 'attributes'>, name: string, fallback: string): string {
  const value = attributes[name];
  return typeof value === 'string' ? value : fallback;
}

/** Returns an input. @throws UnsupportedError when it is left out. */
export function input(inputs: Inputs, index: number): Value {
  const value = inputs[index];
  if (value !== undefined) return value;
  throw new UnsupportedError(`input ${index} is left out`);
}

/** Returns an input as a tensor. */
export function tensor(inputs: Inputs, index: number): Tensor {
  return tensorOf(input(inputs, index));
}

/** Returns the inputs if all of them are on the host. */
export function hosts(inputs: Inputs): HostArray[] | undefined {
  const given = inputs.filter((value) => value !== undefined);
  return given.every(isHost) ? given : undefined;
}
