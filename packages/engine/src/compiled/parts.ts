/** What a graph is made of, and how its nodes and constants are collected. */
import type { ByteType } from '@peftjs/core/model';

/** The element types of TensorFlow.js tensors in a trace. */
export type ValueType = 'float32' | 'int32' | 'bool';

/**
 * The element types of ONNX values: int64 is for shapes, axes and row numbers, int8 and uint8 are for integer matrix
 * products.
 */
export type ElementType = ValueType | ByteType | 'int64';

/** ONNX's numbers of the element types (TensorProto.DataType). */
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

/** An attribute of a node. A bare number is an integer; a float is wrapped, because ONNX distinguishes the two. */
export type Attribute = number | string | readonly number[] | { readonly float: number } | { readonly graph: Subgraph };

/**
 * A graph that a node runs: a branch, or the body of a loop. Its last `captured` inputs are the last ones of the node,
 * which ONNX leaves out of the node: there, a subgraph reads the values around it by their names.
 */
export interface Subgraph {
  /** The nodes, in the order of computation. */
  readonly nodes: readonly GraphNode[];
  /** The tensors stored in the graph. */
  readonly constants: readonly GraphConstant[];
  /** The values that the operator passes, then the captured ones. */
  readonly inputs: readonly SubgraphPort[];
  /** The values that the operator reads. */
  readonly outputs: readonly SubgraphPort[];
  /** The number of captured values. */
  readonly captured: number;
}

/** An input or output of a subgraph. A loop may change its dimensions from round to round, but not their number. */
export interface SubgraphPort {
  /** The subgraph's name for it. */
  readonly name: string;
  /** The type of its elements. */
  readonly dtype: ElementType;
  /** The number of its dimensions. */
  readonly rank: number;
}

/** One operator of the graph. */
export interface GraphNode {
  /** The ONNX operator, e.g. 'MatMul'. */
  readonly op: string;
  /** The operator's domain; empty for the standard operators. */
  readonly domain: string;
  /** The names of the values that it reads. */
  readonly inputs: readonly string[];
  /** The names of the values that it computes. */
  readonly outputs: readonly string[];
  /** The operator's attributes, by name. */
  readonly attributes: Readonly<Record<string, Attribute>>;
  /** What the trace knows of the node; undefined for a node that was added later. */
  readonly traced?: TracedNode;
}

/** What a trace knows of a node. */
export interface TracedNode {
  /** The pass in which the node was added; undefined outside of a function whose gradients are computed. */
  readonly pass: 'forward' | 'backward' | undefined;
  /** Its outputs, at the sizes of the trace. */
  readonly made: readonly NodeOutput[];
}

/** One output of a node. */
export interface NodeOutput {
  /** The type of its elements. */
  readonly dtype: ElementType;
  /** Its shape at the sizes of the trace. */
  readonly shape: readonly number[];
}

/** Options of {@link GraphBuilder.node}. */
export interface NodeOptions {
  /** Element type of the output. Default: that of the first input. */
  readonly dtype?: ElementType;
  /** The operator's attributes. Default: none. */
  readonly attributes?: Readonly<Record<string, Attribute>>;
  /** The operator's domain. Default: the standard operators. */
  readonly domain?: string;
}

/** A tensor that was known when the graph was built. */
export interface GraphConstant {
  /** The graph's name for it. */
  readonly name: string;
  /** The type of its elements. */
  readonly dtype: ElementType;
  /** Its shape; empty for a scalar. */
  readonly shape: readonly number[];
  /** Its elements, row-major. */
  readonly data: ConstantData;
}

/** An input or output of the graph. */
export interface GraphPort {
  /** The traced function's name for it. */
  readonly key: string;
  /** The graph's name for it. */
  readonly name: string;
  /** The type of its elements. */
  readonly dtype: ElementType;
  /** Its shape at the sizes of the trace. */
  readonly shape: readonly number[];
}

/**
 * The nodes and constants of a graph. Equal constants are stored once. A node that repeats an earlier one (same
 * operator, inputs and attributes) is not added again: all operators are pure.
 */
export class GraphParts {
  /** The nodes, in the order of computation. */
  readonly nodes: GraphNode[] = [];
  readonly #constants = new Map<string, GraphConstant>();
  readonly #constantsByContent = new Map<string, GraphConstant[]>();
  readonly #outputsBySignature = new Map<string, readonly string[]>();
  readonly #prefixes: { readonly value: string; readonly constant: string };
  #count = 0;

  /** @param prefixes the beginnings of the names of computed values and of constants */
  constructor(prefixes: { readonly value: string; readonly constant: string }) {
    this.#prefixes = prefixes;
  }

  /** The constants of all nodes. */
  get constants(): readonly GraphConstant[] {
    return [...this.#constants.values()];
  }

  /** The constant of that name. */
  protected constantNamed(name: string): GraphConstant | undefined {
    return this.#constants.get(name);
  }

  /** Returns the constant with these elements, added if there is none. */
  protected addConstant({ dtype, shape, data }: Omit<GraphConstant, 'name'>): GraphConstant {
    const key = `${dtype}[${shape.join()}]${String(data[0])}`;
    const alike = this.#constantsByContent.get(key) ?? [];
    const known = alike.find((constant) => equalNumbers(constant.data, data));
    if (known !== undefined) return known;
    const constant = { name: `${this.#prefixes.constant}${this.#constants.size}`, dtype, shape, data };
    this.#constantsByContent.set(key, [...alike, constant]);
    this.#constants.set(constant.name, constant);
    return constant;
  }

  /** Returns the names of a node's outputs; it is added if there is no such node. */
  protected addNode(
    op: string,
    inputs: readonly string[],
    count: number,
    options: NodeOptions = {},
    traced?: TracedNode,
  ): readonly string[] {
    const { attributes = {}, domain = '' } = options;
    const signature = `${domain}:${op}:${count}:${inputs.join('|')}:${shownAttributes(attributes)}`;
    const known = this.#outputsBySignature.get(signature);
    if (known !== undefined) return known;
    const outputs = Array.from({ length: count }, () => `${this.#prefixes.value}${this.#count++}`);
    this.nodes.push({ op, domain, inputs, outputs, attributes, ...(traced && { traced }) });
    this.#outputsBySignature.set(signature, outputs);
    return outputs;
  }
}

/** Attributes as text; empty for none, which most nodes have. */
export function shownAttributes(attributes: GraphNode['attributes']): string {
  for (const _ in attributes) return JSON.stringify(attributes, shownValue);
  return '';
}

/** JSON has no big integers. */
function shownValue(_: string, value: unknown): unknown {
  return value instanceof BigInt64Array ? String(value) : value;
}

/** Whether two constants hold the same numbers; -0 and 0 differ. */
export function equalNumbers(a: ConstantData, b: ConstantData): boolean {
  return a.length === b.length && (a as Float32Array).every((value, index) => Object.is(value, b[index]));
}

/** Returns a node whose values have other names. */
export function renamedNode(node: GraphNode, nameOf: (name: string) => string): GraphNode {
  return { ...node, inputs: node.inputs.map(nameOf), outputs: node.outputs.map(nameOf) };
}

/** Returns a standard operator with one output. */
export function standardNode(
  op: string,
  inputs: readonly string[],
  output: string,
  attributes: GraphNode['attributes'] = {},
): GraphNode {
  return { op, domain: '', inputs, outputs: [output], attributes };
}
