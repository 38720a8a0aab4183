import { EngineError, sizeOf } from '@peftjs/core/method';
import { namedAxes } from '@peftjs/core/runtime';
import type { Sizes, Specs } from '../axes.js';
import { ELEMENT_NUMBERS, equalNumbers, GraphParts } from './parts.js';
import type { ElementType, GraphConstant, GraphNode } from './parts.js';
import type { ModelPort } from './onnx.js';
import { constantOf, Fitter, type Polynomial } from './polynomial.js';

/** A constant without a name. */
export type UnnamedConstant = Omit<GraphConstant, 'name'>;

/** An error inside the engine: the traces cannot be merged into one graph. */
export class NotDynamic extends EngineError {
  /**
   * @param what the part of the graph that does not follow from the sizes
   * @param node the node that reads it
   * @param mayFollow whether more traces might show how it follows
   */
  constructor(
    what: string,
    readonly node?: Pick<GraphNode, 'op'>,
    readonly mayFollow = false,
  ) {
    super(`${what}${node === undefined ? '' : ` (at node '${node.op}')`}`, node?.op);
  }
}

/** An input of the graph with a named axis. */
interface Source {
  readonly input: string;
  readonly axis: number;
  readonly factor: number;
}

/**
 * A graph under construction whose named axes only have a size in a run. Everything it computes from these sizes is
 * computed once: each polynomial is a few integers, added and multiplied before the nodes that read it.
 */
export class DynamicGraph extends GraphParts {
  /** Inputs that the graph reads only for their sizes. */
  readonly sizeInputs = new Map<string, ModelPort & { readonly key: string }>();
  readonly #specs: Specs;
  readonly #inputs: ReadonlyMap<string, string>;
  readonly #fitter: Fitter;

  /**
   * @param specs the inputs of the function
   * @param inputs the graph's names for the inputs that it reads, by the function's names
   * @param sizes the sizes of the named axes in each trace
   */
  constructor(specs: Specs, inputs: ReadonlyMap<string, string>, sizes: readonly Sizes[]) {
    super({ value: 'value_', constant: 'constant_' });
    this.#specs = specs;
    this.#inputs = inputs;
    this.#fitter = new Fitter(sizes);
  }

  /**
   * Fits a polynomial at each index of rows of equal length, one row per trace; otherwise returns why there is none.
   */
  fitted(rows: readonly ArrayLike<number | bigint>[]): Polynomial[] | 'none' | 'undetermined' {
    const [first] = rows as [ArrayLike<number | bigint>];
    const polynomials: Polynomial[] = [];
    let isOpen = false;
    for (let place = 0; place < first.length; place++) {
      const fit = this.#fitter.fit(rows.map((row) => Number(row[place])));
      if (fit === 'none') return fit;
      if (fit === 'undetermined') isOpen = true;
      else polynomials.push(fit);
    }
    return isOpen ? 'undetermined' : polynomials;
  }

  /** Adds a constant and returns its name. */
  constant(constant: UnnamedConstant): string {
    return this.addConstant(constant).name;
  }

  /** Adds a vector of known integers: int64 [n]. */
  integers(values: readonly number[]): string {
    return this.constant({ dtype: 'int64', shape: [values.length], data: BigInt64Array.from(values, BigInt) });
  }

  /** Adds a node with one output and returns the output's name. */
  node(op: string, inputs: readonly string[], attributes: GraphNode['attributes'] = {}): string {
    return this.addNode(op, inputs, 1, { attributes })[0] as string;
  }

  /** Adds a vector of integers that follow from the sizes: int64 [n]. */
  vector(polynomials: readonly Polynomial[]): string {
    const known = polynomials.map(constantOf);
    if (known.every((value) => value !== undefined)) return this.integers(known);
    const parts = polynomials.map((polynomial) => this.#value(polynomial));
    return parts.length === 1 ? (parts[0] as string) : this.node('Concat', parts, { axis: 0 });
  }

  /** Adds the numbers 0, 1, .. up to a length that follows from the sizes: int64 [n]. */
  range(length: Polynomial): string {
    const [zero, one] = [0, 1].map((value) => this.constant(scalar(value))) as [string, string];
    return this.node('Range', [zero, this.node('Squeeze', [this.vector([length])]), one]);
  }

  cast(name: string, from: ElementType, to: ElementType): string {
    return from === to ? name : this.node('Cast', [name], { to: ELEMENT_NUMBERS[to] });
  }

  /** A polynomial's value: int64 [1] */
  #value(polynomial: Polynomial): string {
    const constant = constantOf(polynomial);
    if (constant !== undefined) return this.integers([constant]);
    const terms = polynomial.terms.map(({ coefficient, axes }) => {
      const factors = axes.map((axis) => this.#size(axis));
      if (factors.length === 0 || coefficient !== 1) factors.push(this.integers([coefficient]));
      return factors.reduce((product, factor) => this.node('Mul', [product, factor]));
    });
    const sum = terms.reduce((sum, term) => this.node('Add', [sum, term]));
    return polynomial.divisor === 1 ? sum : this.node('Div', [sum, this.integers([polynomial.divisor])]);
  }

  /** The size of a named axis: int64 [1] */
  #size(name: string): string {
    const { input, axis, factor } = this.#source(name);
    const size = this.node('Shape', [input], { start: axis, end: axis + 1 });
    return factor === 1 ? size : this.node('Div', [size, this.integers([factor])]);
  }

  /**
   * Finds an input that has the axis. It prefers inputs that the graph reads anyway, and the axis itself to a multiple
   * of it.
   */
  #source(name: string): Source {
    const all = Object.entries(this.#specs).flatMap(([key, { shape }]) =>
      shape.flatMap((axis, place) => {
        const [named, ...others] = typeof axis === 'string' ? namedAxes(axis) : [];
        return named?.name === name && others.length === 0
          ? [{ key, axis: place, factor: named.factor, isRead: this.#inputs.has(key) }]
          : [];
      }),
    );
    const rank = (isRead: boolean, factor: number): number => (isRead ? 0 : 1e9) + factor;
    const [best] = all.sort((a, b) => rank(a.isRead, a.factor) - rank(b.isRead, b.factor));
    if (best === undefined) throw new EngineError(`no input has an axis '${name}'`, name);
    const { key, axis, factor } = best;
    return { input: this.#inputs.get(key) ?? this.#sizeInput(key), axis, factor };
  }

  #sizeInput(key: string): string {
    const { dtype, shape } = this.#specs[key] as Specs[string];
    const port = { key, name: `in:${key}`, dtype, shape };
    this.sizeInputs.set(key, port);
    return port.name;
  }
}

/**
 * Builds a constant whose numbers or shape depend on the sizes, from its value in each trace:
 *
 *   the same in all traces             a constant
 *   integers of one shape              polynomials of the sizes
 *   start + sum of step_a * index_a    rows, columns, distances and flat indices, from one range per axis
 *   three numbers around a diagonal    causal masks and identities: one number below, one on and one above the diagonal
 *
 * @returns the name of the value that replaces these constants
 * @throws NotDynamic when none of these fits.
 */
export function unifiedConstant(graph: DynamicGraph, held: readonly GraphConstant[], node: GraphNode): string {
  const [first, ...others] = held as [GraphConstant, ...GraphConstant[]];
  const shown = `${first.dtype} [${first.shape.join(', ')}]`;
  const isAlike = others.every(({ dtype, shape }) => dtype === first.dtype && shape.length === first.shape.length);
  if (!isAlike) throw new NotDynamic(`a ${shown} has another type or rank for other sizes`, node);
  const isOneShape = others.every(({ shape }) => shape.every((dim, axis) => dim === first.shape[axis]));
  if (isOneShape && others.every(({ data }) => equalNumbers(first.data, data))) return graph.constant(first);
  const made = isOneShape ? integersOf(graph, held) : (linear(graph, held) ?? aroundDiagonal(graph, held) ?? 'none');
  if (typeof made !== 'string') return made.name;
  throw new NotDynamic(`it is unknown how the ${shown} depends on the sizes`, node, made === 'undetermined');
}

/** The name of a value, or why there is none. */
type Made = { readonly name: string } | 'none' | 'undetermined';

/** Integers of one shape; each is a polynomial. */
function integersOf(graph: DynamicGraph, held: readonly GraphConstant[]): Made {
  const [{ shape, dtype }] = held as [GraphConstant];
  const polynomials = graph.fitted(held.map(({ data }) => data));
  if (typeof polynomials === 'string') return polynomials;
  const vector = graph.vector(polynomials); // int64 [n]
  const shaped = shape.length === 1 ? vector : graph.node('Reshape', [vector, graph.integers(shape)]);
  return { name: graph.cast(shaped, 'int64', dtype) };
}

/** start + the sum over axes of step * index, in whole numbers; undefined if a trace has something else. */
function linear(graph: DynamicGraph, held: readonly GraphConstant[]): Made | undefined {
  const [{ shape, dtype }] = held as [GraphConstant];
  const forms = held.map(linearForm).filter((form) => form !== undefined);
  if (forms.length < held.length) return undefined;
  const [numbers, dims] = [graph.fitted(forms), graph.fitted(held.map((constant) => constant.shape))];
  if (typeof numbers === 'string') return numbers;
  if (typeof dims === 'string') return dims;
  const [start, ...steps] = numbers as [Polynomial, ...Polynomial[]];
  const terms = steps.flatMap((step, axis) => {
    if (constantOf(step) === 0) return [];
    const range = graph.range(dims[axis] as Polynomial);
    const scaled = constantOf(step) === 1 ? range : graph.node('Mul', [range, graph.vector([step])]);
    const behind = shape.length - 1 - axis;
    return [
      behind === 0 ? scaled : graph.node('Reshape', [scaled, graph.integers([-1, ...Array<number>(behind).fill(1)])]),
    ];
  });
  const all = constantOf(start) === 0 && terms.length > 0 ? terms : [...terms, graph.vector([start])];
  const sum = all.reduce((total, term) => graph.node('Add', [total, term]));
  const isWhole = shape.length === 1 && terms.length === 1;
  return { name: graph.cast(isWhole ? sum : graph.node('Expand', [sum, graph.vector(dims)]), 'int64', dtype) };
}

/** The start and the step along each axis (0 for an axis of length 1); undefined for numbers of another form. */
function linearForm({ data, shape }: GraphConstant): number[] | undefined {
  const strides = shape.map((_, axis) => sizeOf(shape.slice(axis + 1)));
  const start = Number(data[0]);
  const steps = shape.map((dim, axis) => (dim > 1 ? Number(data[strides[axis] as number]) - start : 0));
  if (data.length === 0 || ![start, ...steps].every(Number.isInteger)) return undefined;
  for (let at = 0; at < data.length; at++) {
    let value = start;
    for (let axis = 0, rest = at; axis < shape.length; axis++) {
      const stride = strides[axis] as number;
      const index = Math.floor(rest / stride);
      rest -= index * stride;
      value += (steps[axis] as number) * index;
    }
    if (Number(data[at]) !== value) return undefined;
  }
  return [start, ...steps];
}

/** [.., rows, columns] of three numbers: one below the diagonal, one on it and one above it. */
function aroundDiagonal(graph: DynamicGraph, held: readonly GraphConstant[]): Made | undefined {
  const [first] = held as [GraphConstant];
  const columns = first.shape.at(-1) as number;
  const three = [first.data[columns], first.data[0], first.data[1]];
  if (first.shape.length < 2 || three.includes(undefined)) return undefined;
  if (!held.every((constant) => isAround(constant, three))) return undefined;
  const dims = graph.fitted(held.map(({ shape }) => shape));
  if (typeof dims === 'string') return dims;
  const [rowCount, columnCount] = dims.slice(-2) as [Polynomial, Polynomial];
  const rows = graph.node('Reshape', [graph.range(rowCount), graph.integers([-1, 1])]); // [rows, 1]
  const columnsOf = graph.range(columnCount); // [columns]
  // ONNX Runtime's Where takes numbers only, not bools.
  const dtype = first.dtype === 'bool' ? 'uint8' : first.dtype;
  const [below, on, above] = [columns, 0, 1].map((at) =>
    graph.constant({ dtype, shape: [], data: first.data.slice(at, at + 1) }),
  ) as [string, string, string];
  const isAbove = graph.node('Greater', [columnsOf, rows]);
  const isOn = graph.node('Equal', [columnsOf, rows]);
  const chosen = graph.node('Where', [isAbove, above, graph.node('Where', [isOn, on, below])]); // [rows, columns]
  const square = graph.cast(chosen, dtype, first.dtype);
  return { name: first.shape.length === 2 ? square : graph.node('Expand', [square, graph.vector(dims)]) };
}

function isAround({ data, shape }: GraphConstant, [below, on, above]: readonly unknown[]): boolean {
  const [rows, columns] = shape.slice(-2) as [number, number];
  return (data as Float32Array).every((value, at) => {
    const distance = (at % columns) - (Math.floor(at / columns) % rows);
    return Object.is(value, distance > 0 ? above : distance === 0 ? on : below);
  });
}

function scalar(value: number): UnnamedConstant {
  return { dtype: 'int64', shape: [], data: BigInt64Array.of(BigInt(value)) };
}
