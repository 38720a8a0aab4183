import { sizeOf } from '@peftjs/core/method';
import type { ByteType } from '@peftjs/core/model';
import { ELEMENT_NUMBERS, GraphParts, standardNode } from './parts.js';
import type { ConstantData, ElementType, GraphPort, NodeOptions, NodeOutput, TracedNode, ValueType } from './parts.js';

/**
 * A tensor of the trace. The ONNX value `name` has the shape `onnxShape`; the traced function sees `shape`. Where
 * the two differ, one of two operations is still pending, and often never has to be done:
 *
 * - a broadcast: ONNX operators broadcast by themselves, so a repeated value is only written out for an operator that
 *   does not;
 * - a view of a matrix: `[rows, features]` seen as `[.., features]`. Elementwise operators then work on the matrix,
 *   right after the product that computed it, so that ONNX Runtime can fuse them.
 */
export interface Value {
  /** The graph's name for it. */
  readonly name: string;
  /** The type of its elements. */
  readonly dtype: ElementType;
  /** The shape that the traced function sees. */
  readonly shape: readonly number[];
  /** The shape of the ONNX value. */
  readonly onnxShape: readonly number[];
}

type Shape = readonly number[];

/** Operands that leave the other operand unchanged: either operand of Mul and Add, the second one of Sub and Div. */
const NEUTRAL: Readonly<Record<string, number>> = { Mul: 1, Div: 1, Add: 0, Sub: 0 };
const COMMUTATIVE: ReadonlySet<string> = new Set(['Mul', 'Add']);

/** An ONNX graph under construction. */
export class GraphBuilder extends GraphParts {
  /** The inputs, in the order in which they were added. */
  readonly inputs: GraphPort[] = [];
  /** The outputs, in the order in which they were added. */
  readonly outputs: GraphPort[] = [];
  /** The pass that is being traced. */
  pass: TracedNode['pass'];
  /** The type of the weight in integer products. */
  bytes: ByteType = 'int8';
  readonly #beforeReshape = new Map<string, Value>();
  readonly #beforeTranspose = new Map<string, { readonly value: Value; readonly perm: readonly number[] }>();

  constructor() {
    super({ value: 'v', constant: 'c' });
  }

  /** Adds a tensor that is passed to every run. */
  input(key: string, dtype: ElementType, shape: Shape): Value {
    const name = `in:${key}`;
    this.inputs.push({ key, name, dtype, shape });
    return { name, dtype, shape, onnxShape: shape };
  }

  /** Adds a tensor that every run returns; bools come out as int32. */
  output(key: string, x: Value): void {
    const { name, dtype, shape } = this.whole(x.dtype === 'bool' ? this.cast(x, 'int32') : x);
    // Each ONNX output needs its own name: inputs, constants and values that already are outputs are copied.
    const isTaken =
      this.constantNamed(name) !== undefined || [...this.inputs, ...this.outputs].some((port) => port.name === name);
    const own = isTaken ? `out:${key}` : name;
    if (isTaken) this.nodes.push(standardNode('Identity', [name], own));
    this.outputs.push({ key, name: own, dtype, shape });
  }

  /** Adds a tensor of known values. If all its elements are equal, it is stored as a scalar. */
  constant(data: ConstantData, dtype: ElementType, shape: Shape): Value {
    const uniform = data.length > 0 && (data as Float32Array).every((value) => Object.is(value, data[0]));
    const onnxShape = uniform ? [] : shape;
    const { name } = this.addConstant({ dtype, shape: onnxShape, data: uniform ? data.slice(0, 1) : data });
    return { name, dtype, shape, onnxShape };
  }

  /** Adds a known number. */
  scalar(value: number, dtype: ValueType = 'float32'): Value {
    return this.constant(typedArray([value], dtype), dtype, []);
  }

  /** Adds an int64 vector, the form in which ONNX reads shapes, axes and bounds. */
  ints(values: readonly number[]): Value {
    const shape = [values.length];
    const { name } = this.addConstant({ dtype: 'int64', shape, data: BigInt64Array.from(values, BigInt) });
    return { name, dtype: 'int64', shape, onnxShape: shape };
  }

  /** An elementwise operator with one operand. */
  map(op: string, x: Value, options: NodeOptions = {}): Value {
    return { ...this.#emit(op, [x], x.onnxShape, options), shape: x.shape };
  }

  /** An elementwise operator with two operands that broadcast. */
  zip(op: string, a: Value, b: Value, options: NodeOptions = {}): Value {
    const shape = broadcast([a.shape, b.shape]);
    const neutral = NEUTRAL[op];
    if (neutral !== undefined && this.#known(b) === neutral && same(a.shape, shape)) return a;
    if (neutral !== undefined && COMMUTATIVE.has(op) && this.#known(a) === neutral && same(b.shape, shape)) return b;
    return this.#elementwise(op, [a, b], shape, options);
  }

  /** `yes` where the condition holds, `no` elsewhere; all three broadcast. */
  where(condition: Value, yes: Value, no: Value): Value {
    const shape = broadcast([condition.shape, yes.shape, no.shape]);
    return this.#elementwise('Where', [condition, yes, no], shape, { dtype: yes.dtype });
  }

  /** Converts to another element type. */
  cast(x: Value, dtype: ElementType): Value {
    return x.dtype === dtype ? x : this.map('Cast', x, { dtype, attributes: { to: ELEMENT_NUMBERS[dtype] } });
  }

  /** The same elements in another shape. */
  reshape(x: Value, shape: Shape): Value {
    if (same(x.shape, shape)) return x;
    if (x.onnxShape.length === 0) return { ...x, shape };
    if (sizeOf(x.onnxShape) !== sizeOf(shape)) return this.reshape(this.whole(x), shape);
    if (same(x.onnxShape, shape) || isView(x.onnxShape, shape)) return { ...x, shape };
    const last = shape.at(-1) ?? 0;
    if (shape.length < 3 || last === 0) return this.#reshaped(x, shape);
    // A view again: elementwise operators and matrix products read the matrix, other operators reshape it from its
    // source.
    return { ...this.#reshaped(x, [sizeOf(shape) / last, last]), shape };
  }

  /**
   * The same elements with the axes in another order. A transpose that undoes an earlier one returns the earlier
   * operand.
   */
  transpose(x: Value, perm: readonly number[]): Value {
    if (perm.every((axis, place) => axis === place)) return x;
    const whole = this.whole(x);
    const before = this.#beforeTranspose.get(whole.name);
    if (before && perm.every((axis, place) => before.perm[axis] === place)) return before.value;
    const shape = perm.map((axis) => x.shape[axis] ?? 1);
    const made = this.node('Transpose', [whole], shape, { attributes: { perm } });
    this.#beforeTranspose.set(made.name, { value: whole, perm });
    return made;
  }

  /** `[.., features]` as a matrix `[rows, features]`. */
  rows(x: Value): Value {
    return this.reshape(x, [sizeOf(leading(x.shape)), x.shape.at(-1) ?? 1]);
  }

  /** `x` repeated to a shape that it broadcasts to; only written out when an operator needs it whole. */
  expand(x: Value, shape: Shape): Value {
    return { ...(isView(x.onnxShape, x.shape) ? this.whole(x) : x), shape };
  }

  /** Adds an operator with one output; its operands are written out whole. */
  node(op: string, operands: readonly Value[], shape: Shape, options: NodeOptions = {}): Value {
    const whole = operands.map((x) => this.whole(x));
    return this.#emit(op, whole, shape, options);
  }

  /** Adds an operator with several outputs; its operands are written out whole. */
  nodeOf(op: string, operands: readonly Value[], outputs: readonly NodeOutput[], options: NodeOptions = {}): Value[] {
    const whole = operands.map((x) => this.whole(x).name);
    const names = this.addNode(op, whole, outputs.length, options, { pass: this.pass, made: outputs });
    return outputs.map(({ dtype, shape }, index) => ({ name: names[index] ?? '', dtype, shape, onnxShape: shape }));
  }

  /** The same tensor with no pending broadcast or view. */
  whole(x: Value): Value {
    if (same(x.onnxShape, x.shape)) return x;
    if (sizeOf(x.onnxShape) !== sizeOf(x.shape)) return this.#emit('Expand', [x, this.ints(x.shape)], x.shape);
    return this.#reshaped(x, x.shape);
  }

  /** Reshapes from the original value, skipping intermediate shapes. */
  #reshaped(x: Value, shape: Shape): Value {
    const source = this.#beforeReshape.get(x.name) ?? x;
    if (same(source.onnxShape, shape)) return { ...source, shape };
    // Without allowzero, a 0 in ONNX's Reshape copies the old dimension.
    const attributes = shape.includes(0) ? { allowzero: 1 } : {};
    const reshaped = this.#emit('Reshape', [source, this.ints(shape)], shape, { attributes });
    this.#beforeReshape.set(reshaped.name, source);
    return reshaped;
  }

  #elementwise(op: string, operands: readonly Value[], shape: Shape, options: NodeOptions): Value {
    const unrolled = (): Value[] => operands.map((x) => (isView(x.onnxShape, x.shape) ? this.whole(x) : x));
    const aligned = this.#alignedRows(operands, shape) ?? unrolled();
    return { ...this.#emit(op, aligned, broadcast(aligned.map(({ onnxShape }) => onnxShape)), options), shape };
  }

  /** The operands as matrices with the same rows, if one is held as a matrix and the others can be. */
  #alignedRows(operands: readonly Value[], shape: Shape): Value[] | undefined {
    const rows = leading(shape);
    if (!operands.some((x) => isView(x.onnxShape, x.shape) && same(leading(x.shape), rows))) return undefined;
    const aligned = operands.flatMap((x) => this.#asRows(x, rows) ?? []);
    // If every operand still had to be repeated along the last axis, the result would have both a broadcast and a view
    // pending.
    const isFull = aligned.some(({ onnxShape }) => (onnxShape.at(-1) ?? 1) === shape.at(-1));
    return isFull && aligned.length === operands.length ? aligned : undefined;
  }

  /** `x` as a matrix with these rows, or as a vector that broadcasts to each row; undefined if neither is possible. */
  #asRows(x: Value, rows: Shape): Value | undefined {
    if (x.onnxShape.length < 2) return x;
    if (!same(leading(x.shape), rows)) return undefined;
    if (isView(x.onnxShape, x.shape)) return x;
    return same(x.onnxShape, x.shape) ? { ...this.rows(x), shape: x.shape } : undefined;
  }

  #emit(op: string, operands: readonly Value[], onnxShape: Shape, options: NodeOptions = {}): Value {
    const inputs = operands.map(({ name }) => name);
    const made = { dtype: options.dtype ?? dtypeOf(operands), shape: onnxShape };
    const [name = ''] = this.addNode(op, inputs, 1, options, { pass: this.pass, made: [made] });
    return { name, ...made, onnxShape };
  }

  /** The one number that all elements of a value equal, if the trace knows it. */
  #known(x: Value): number | undefined {
    const constant = sizeOf(x.onnxShape) === 1 ? this.constantNamed(x.name) : undefined;
    return constant === undefined ? undefined : Number(constant.data[0]);
  }
}

/** The shape that shapes broadcast to. TensorFlow.js has already checked that they are compatible. */
export function broadcast(shapes: readonly Shape[]): number[] {
  const rank = Math.max(...shapes.map(({ length }) => length));
  return Array.from({ length: rank }, (_, axis) => {
    const dims = shapes.map((shape) => shape[axis - rank + shape.length] ?? 1);
    return dims.find((dim) => dim !== 1) ?? 1;
  });
}

/** Whether a value held as a matrix `[rows, features]` is seen as `[.., features]`. */
export function isView(onnxShape: Shape, shape: Shape): boolean {
  return (
    onnxShape.length === 2 && shape.length !== 2 && onnxShape[1] === shape.at(-1) && sizeOf(onnxShape) === sizeOf(shape)
  );
}

/** Converts numbers to the typed array of an element type. */
export function typedArray(
  values: ArrayLike<number | boolean>,
  dtype: ValueType,
): Float32Array | Int32Array | Uint8Array {
  const numbers = Array.from(values, Number);
  if (dtype === 'float32') return Float32Array.from(numbers);
  return dtype === 'int32' ? Int32Array.from(numbers) : Uint8Array.from(numbers);
}

function dtypeOf([first]: readonly Value[]): ElementType {
  return first?.dtype ?? 'float32';
}

function leading(shape: Shape): Shape {
  return shape.slice(0, -1);
}

function same(a: Shape, b: Shape): boolean {
  return a.length === b.length && a.every((dim, axis) => dim === b[axis]);
}
