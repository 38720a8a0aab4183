/** What a TensorFlow.js tensor of a trace may hold. */
export type ValueType = 'float32' | 'int32' | 'bool';

/** What an ONNX value of the graph may hold; int64 is for shapes, axes and row numbers, bytes are for products of integers. */
export type ElementType = ValueType | 'int64' | 'int8' | 'uint8';

/** The numbers by which ONNX knows the element types (TensorProto.DataType). */
export const ELEMENT_NUMBERS: Readonly<Record<ElementType, number>> = {
  float32: 1,
  uint8: 2,
  int8: 3,
  int32: 6,
  int64: 7,
  bool: 9,
};

/** The memory of a constant. */
export type ConstantData = Float32Array | Int32Array | Uint8Array | BigInt64Array;

/** An attribute of a node. A bare number is an integer; fractions are wrapped, as ONNX tells them apart. */
export type Attribute = number | string | readonly number[] | { readonly float: number };

/** One operator of the graph. */
export interface GraphNode {
  readonly op: string;
  /** Empty for the standard operators. */
  readonly domain: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes: Readonly<Record<string, Attribute>>;
}

/** A tensor that was known when the graph was built. */
export interface GraphConstant {
  readonly name: string;
  readonly dtype: ElementType;
  readonly shape: readonly number[];
  readonly data: ConstantData;
}

/** An input or output of the graph. */
export interface GraphPort {
  /** What the traced function calls it. */
  readonly key: string;
  /** What the graph calls it. */
  readonly name: string;
  readonly dtype: ElementType;
  readonly shape: readonly number[];
}

/**
 * A tensor of the trace. The ONNX value `name` has the shape `held`; `shape` is what the traced function sees. Where the two
 * differ, one of two things is still to be done, and often never has to be:
 *
 * - a broadcast: ONNX operators broadcast by themselves, so a repeated value is written out only for one that does not;
 * - a view of a matrix: `[rows, features]` seen as `[.., features]`. Elementwise operators work on the matrix, next to the
 *   products that made it, which is what lets ONNX Runtime fuse them.
 */
export interface Value {
  readonly name: string;
  readonly dtype: ElementType;
  readonly shape: readonly number[];
  readonly held: readonly number[];
}

/** What comes out of a node of several outputs. */
export type Output = Pick<Value, 'dtype' | 'shape'>;

/** Options of {@link GraphBuilder.node}. */
export interface NodeOptions {
  /** Element type of the output; the first input's when left out. */
  readonly dtype?: ElementType;
  readonly attributes?: Readonly<Record<string, Attribute>>;
  readonly domain?: string;
}

type Shape = readonly number[];

/** Operands that leave the other one as it is; Mul and Add look at both sides, Sub and Div at the second. */
const NEUTRAL: Readonly<Record<string, number>> = { Mul: 1, Div: 1, Add: 0, Sub: 0 };
const COMMUTATIVE: ReadonlySet<string> = new Set(['Mul', 'Add']);

/**
 * An ONNX graph under construction. Equal constants are held once, and a node that repeats an earlier one (same operator,
 * inputs and attributes) is the earlier one: everything here is pure.
 */
export class GraphBuilder {
  readonly nodes: GraphNode[] = [];
  readonly inputs: GraphPort[] = [];
  readonly outputs: GraphPort[] = [];
  readonly #constants = new Map<string, GraphConstant>();
  readonly #constantsByContent = new Map<string, GraphConstant[]>();
  readonly #beforeReshape = new Map<string, Value>();
  readonly #beforeTranspose = new Map<string, { readonly value: Value; readonly perm: readonly number[] }>();
  readonly #outputsBySignature = new Map<string, readonly string[]>();
  /** Names of what nodes compute, up to those that are outputs already. */
  readonly #computed = new Set<string>();
  #count = 0;

  get constants(): readonly GraphConstant[] {
    return [...this.#constants.values()];
  }

  /** A tensor that every run is given. */
  input(key: string, dtype: ElementType, shape: Shape): Value {
    const name = `in:${key}`;
    this.inputs.push({ key, name, dtype, shape });
    return { name, dtype, shape, held: shape };
  }

  /** A tensor that every run returns; bools come out as int32. */
  output(key: string, x: Value): void {
    const { name, dtype, shape } = this.whole(x.dtype === 'bool' ? this.cast(x, 'int32') : x);
    // An input, a constant or a value that is an output already is copied: ONNX wants a name of its own for each.
    const isFree = this.#computed.delete(name);
    const own = isFree ? name : `out:${key}`;
    if (!isFree) this.nodes.push({ op: 'Identity', domain: '', inputs: [name], outputs: [own], attributes: {} });
    this.outputs.push({ key, name: own, dtype, shape });
  }

  /** A tensor known now. When all its elements are equal it is held as a scalar. */
  constant(data: ConstantData, dtype: ElementType, shape: Shape): Value {
    const uniform = data.length > 0 && (data as Float32Array).every((value) => Object.is(value, data[0]));
    const held = uniform ? [] : shape;
    const { name } = this.#constant(uniform ? data.slice(0, 1) : data, dtype, held);
    return { name, dtype, shape, held };
  }

  scalar(value: number, dtype: ValueType = 'float32'): Value {
    return this.constant(typedArray([value], dtype), dtype, []);
  }

  /** A vector of integers as ONNX takes shapes, axes and bounds. */
  ints(values: readonly number[]): Value {
    const shape = [values.length];
    const { name } = this.#constant(BigInt64Array.from(values, BigInt), 'int64', shape);
    return { name, dtype: 'int64', shape, held: shape };
  }

  /** Elementwise, one operand. */
  map(op: string, x: Value, options: NodeOptions = {}): Value {
    return { ...this.#emit(op, [x], x.held, options), shape: x.shape };
  }

  /** Elementwise, two operands that broadcast. */
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

  cast(x: Value, dtype: ElementType): Value {
    return x.dtype === dtype ? x : this.map('Cast', x, { dtype, attributes: { to: ELEMENT_NUMBERS[dtype] } });
  }

  /** The same elements in another shape. */
  reshape(x: Value, shape: Shape): Value {
    if (same(x.shape, shape)) return x;
    if (x.held.length === 0) return { ...x, shape };
    if (sizeOf(x.held) !== sizeOf(shape)) return this.reshape(this.whole(x), shape);
    if (same(x.held, shape) || isView(x.held, shape)) return { ...x, shape };
    const last = shape.at(-1) ?? 0;
    if (shape.length < 3 || last === 0) return this.#reshaped(x, shape);
    // A view again: elementwise operators and products take the matrix, the others make it whole from where it came.
    return { ...this.#reshaped(x, [sizeOf(shape) / last, last]), shape };
  }

  /** The same elements with the axes in another order. One that undoes another leaves what was there before. */
  transpose(x: Value, perm: readonly number[]): Value {
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

  /** `x` repeated to a shape that it broadcasts to; written out only when an operator needs it whole. */
  expand(x: Value, shape: Shape): Value {
    return { ...(isView(x.held, x.shape) ? this.whole(x) : x), shape };
  }

  /** Any operator with one output; its operands are written out whole. */
  node(op: string, operands: readonly Value[], shape: Shape, options: NodeOptions = {}): Value {
    const whole = operands.map((x) => this.whole(x));
    return this.#emit(op, whole, shape, options);
  }

  /** Any operator with several outputs. */
  nodeOf(op: string, operands: readonly Value[], outputs: readonly Output[], options: NodeOptions = {}): Value[] {
    const whole = operands.map((x) => this.whole(x));
    const names = this.#names(op, whole, outputs.length, options);
    return outputs.map(({ dtype, shape }, index) => ({ name: names[index] ?? '', dtype, shape, held: shape }));
  }

  /** The same tensor with nothing left to do. */
  whole(x: Value): Value {
    if (same(x.held, x.shape)) return x;
    if (sizeOf(x.held) !== sizeOf(x.shape)) return this.#emit('Expand', [x, this.ints(x.shape)], x.shape);
    return this.#reshaped(x, x.shape);
  }

  /** Shapes in between leave no trace. */
  #reshaped(x: Value, shape: Shape): Value {
    const source = this.#beforeReshape.get(x.name) ?? x;
    if (same(source.held, shape)) return { ...source, shape };
    // A zero otherwise means: as before.
    const attributes = shape.includes(0) ? { allowzero: 1 } : {};
    const reshaped = this.#emit('Reshape', [source, this.ints(shape)], shape, { attributes });
    this.#beforeReshape.set(reshaped.name, source);
    return reshaped;
  }

  #elementwise(op: string, operands: readonly Value[], shape: Shape, options: NodeOptions): Value {
    const unrolled = (): Value[] => operands.map((x) => (isView(x.held, x.shape) ? this.whole(x) : x));
    const aligned = this.#alignedRows(operands, shape) ?? unrolled();
    return { ...this.#emit(op, aligned, broadcast(aligned.map(({ held }) => held)), options), shape };
  }

  /** Operands as matrices of the same rows, if one is held so and the others can be. */
  #alignedRows(operands: readonly Value[], shape: Shape): Value[] | undefined {
    const rows = leading(shape);
    if (!operands.some((x) => isView(x.held, x.shape) && same(leading(x.shape), rows))) return undefined;
    const aligned = operands.flatMap((x) => this.#asRows(x, rows) ?? []);
    // A last axis that all of them still have to repeat would leave two things to be done.
    const isFull = aligned.some(({ held }) => (held.at(-1) ?? 1) === shape.at(-1));
    return isFull && aligned.length === operands.length ? aligned : undefined;
  }

  /** `x` as a matrix of these rows, or a vector that meets each; undefined where broadcasting stands in the way. */
  #asRows(x: Value, rows: Shape): Value | undefined {
    if (x.held.length < 2) return x;
    if (!same(leading(x.shape), rows)) return undefined;
    if (isView(x.held, x.shape)) return x;
    return same(x.held, x.shape) ? { ...this.rows(x), shape: x.shape } : undefined;
  }

  #emit(op: string, operands: readonly Value[], held: Shape, options: NodeOptions = {}): Value {
    const [name = ''] = this.#names(op, operands, 1, options);
    return { name, dtype: options.dtype ?? dtypeOf(operands), shape: held, held };
  }

  #names(op: string, operands: readonly Value[], count: number, options: NodeOptions): readonly string[] {
    const { attributes = {}, domain = '' } = options;
    const inputs = operands.map(({ name }) => name);
    const signature = `${domain}:${op}:${count}:${inputs.join('|')}:${shownAttributes(attributes)}`;
    const known = this.#outputsBySignature.get(signature);
    if (known !== undefined) return known;
    const outputs = Array.from({ length: count }, () => `v${this.#count++}`);
    this.nodes.push({ op, domain, inputs, outputs, attributes });
    this.#outputsBySignature.set(signature, outputs);
    for (const name of outputs) this.#computed.add(name);
    return outputs;
  }

  #constant(data: ConstantData, dtype: ElementType, shape: Shape): GraphConstant {
    const key = `${dtype}[${shape.join()}]${String(data[0])}`;
    const alike = this.#constantsByContent.get(key) ?? [];
    const known = alike.find((constant) => equal(constant.data, data));
    if (known !== undefined) return known;
    const constant = { name: `c${this.#constants.size}`, dtype, shape, data };
    this.#constantsByContent.set(key, [...alike, constant]);
    this.#constants.set(constant.name, constant);
    return constant;
  }

  /** The number that a value is throughout, where the trace knows it. */
  #known(x: Value): number | undefined {
    const constant = sizeOf(x.held) === 1 ? this.#constants.get(x.name) : undefined;
    return constant === undefined ? undefined : Number(constant.data[0]);
  }
}

/** The shape that shapes broadcast to. They are known to fit: TensorFlow.js has checked them. */
export function broadcast(shapes: readonly Shape[]): number[] {
  const rank = Math.max(...shapes.map(({ length }) => length));
  return Array.from({ length: rank }, (_, axis) => {
    const dims = shapes.map((shape) => shape[axis - rank + shape.length] ?? 1);
    return dims.find((dim) => dim !== 1) ?? 1;
  });
}

/** Whether a value held as a matrix is seen as `[.., features]`. */
export function isView(held: Shape, shape: Shape): boolean {
  return held.length === 2 && shape.length !== 2 && held[1] === shape.at(-1) && sizeOf(held) === sizeOf(shape);
}

/** Numbers as the memory of an element type. */
export function typedArray(
  values: ArrayLike<number | boolean>,
  dtype: ValueType,
): Float32Array | Int32Array | Uint8Array {
  const numbers = Array.from(values, Number);
  if (dtype === 'float32') return Float32Array.from(numbers);
  return dtype === 'int32' ? Int32Array.from(numbers) : Uint8Array.from(numbers);
}

/** Attributes as text: most nodes have none. */
export function shownAttributes(attributes: GraphNode['attributes']): string {
  for (const _ in attributes) return JSON.stringify(attributes);
  return '';
}

function dtypeOf([first]: readonly Value[]): ElementType {
  return first?.dtype ?? 'float32';
}

function sizeOf(shape: Shape): number {
  return shape.reduce((size, dim) => size * dim, 1);
}

function leading(shape: Shape): Shape {
  return shape.slice(0, -1);
}

function same(a: Shape, b: Shape): boolean {
  return a.length === b.length && a.every((dim, axis) => dim === b[axis]);
}

function equal(a: ConstantData, b: ConstantData): boolean {
  return a.length === b.length && (a as Float32Array).every((value, index) => Object.is(value, b[index]));
}
