import { EngineError } from '@peftjs/core';
import type { ConstantData, ElementType, GraphConstant, GraphNode } from '../compiled/graph.js';
import { ELEMENT_NUMBERS } from '../compiled/graph.js';
import { constantOf, type Polynomial, type Term } from './sizes.js';

/** A constant without a name. */
export type Numbers = Omit<GraphConstant, 'name'>;

/** An ONNX graph under construction whose sizes are those of an input, [batch, tokens]. What it computes of them it computes once. */
export class OpenGraph {
  readonly nodes: GraphNode[] = [];
  readonly constants: GraphConstant[] = [];
  readonly #sized: string;
  readonly #names = new Map<string, string>();
  readonly #byContent = new Map<string, GraphConstant[]>();

  /** @param sized the input whose shape is [batch, tokens] */
  constructor(sized: string) {
    this.#sized = sized;
  }

  /** The name of a constant; equal ones are held once. */
  constant({ dtype, shape, data }: Numbers): string {
    const key = `${dtype}[${shape.join()}]${String(data[0])}`;
    const alike = this.#byContent.get(key) ?? [];
    const known = alike.find((constant) => equalNumbers(constant.data, data));
    if (known !== undefined) return known.name;
    const constant = { name: `constant_${this.constants.length}`, dtype, shape, data };
    this.#byContent.set(key, [...alike, constant]);
    this.constants.push(constant);
    return constant.name;
  }

  /** A vector of integers: int64 [n]. */
  integers(values: readonly number[]): string {
    return this.constant({ dtype: 'int64', shape: [values.length], data: BigInt64Array.from(values, BigInt) });
  }

  /** A node with one output, and that output's name. A second one that is the same is the first. */
  node(op: string, inputs: readonly string[], attributes: GraphNode['attributes'] = {}): string {
    return this.#once(JSON.stringify([op, inputs, attributes]), (output) => {
      this.nodes.push({ op, domain: '', inputs, outputs: [output], attributes });
    });
  }

  /** A vector of integers that follow from the sizes: int64 [n]. */
  vector(polynomials: readonly Polynomial[]): string {
    const known = polynomials.map(constantOf);
    if (known.every((value) => value !== undefined)) return this.integers(known);
    const parts = polynomials.map((polynomial) => this.#value(polynomial));
    return parts.length === 1 ? (parts[0] as string) : this.node('Concat', parts, { axis: 0 });
  }

  cast(name: string, to: ElementType): string {
    return this.node('Cast', [name], { to: ELEMENT_NUMBERS[to] });
  }

  /** int64 [1] */
  #value(polynomial: Polynomial): string {
    const constant = constantOf(polynomial);
    if (constant !== undefined) return this.integers([constant]);
    const terms = polynomial.map((term) => this.#term(term));
    return terms.reduce((sum, term) => this.node('Add', [sum, term]));
  }

  #term({ coefficient, batchPower, tokensPower }: Term): string {
    const factors = [
      ...Array.from({ length: batchPower }, () => this.#size(0)),
      ...Array.from({ length: tokensPower }, () => this.#size(1)),
    ];
    if (factors.length === 0 || coefficient !== 1) factors.push(this.integers([coefficient]));
    return factors.reduce((product, factor) => this.node('Mul', [product, factor]));
  }

  /** A dimension of the input that has the sizes. */
  #size(axis: number): string {
    return this.node('Shape', [this.#sized], { start: axis, end: axis + 1 });
  }

  #once(key: string, make: (name: string) => void): string {
    const known = this.#names.get(key);
    if (known !== undefined) return known;
    const name = `value_${this.#names.size}`;
    this.#names.set(key, name);
    make(name);
    return name;
  }
}

/** Whether two constants hold the same numbers, -0 and 0 told apart. */
export function equalNumbers(a: ConstantData, b: ConstantData): boolean {
  return a.length === b.length && (a as Float32Array).every((value, index) => Object.is(value, b[index]));
}

/** A graph that does not come out open. */
export function notOpen(what: string, { op }: Pick<GraphNode, 'op'>): EngineError {
  return new EngineError(
    `the graph cannot be written for any batch and any number of tokens: ${what}, which its node '${op}' reads`,
    op,
  );
}
