import type { Sizes, Specs } from '../axes.js';
import { shownAttributes } from './parts.js';
import type { GraphConstant, GraphNode } from './parts.js';
import type { ModelGraph, ModelPort } from './onnx.js';
import { NotDynamic, DynamicGraph, unifiedConstant } from './dynamic-graph.js';
import { constantOf, shownPolynomial, type Polynomial } from './polynomial.js';
import type { TracedGraph } from './trace.js';

/** An input or output of a graph, with the function's name for it (`key`) and the graph's (`name`). */
interface RunPort extends ModelPort {
  readonly key: string;
}

/** A graph that can be run: one trace, or several merged traces. */
export type RunGraph = ModelGraph<RunPort>;

/**
 * Merges the traces of one function at several sizes into one graph for every size.
 *
 * @param specs the function's inputs, with names for the axes that differ
 * @param sizes the sizes of the named axes in each trace
 * @throws NotDynamic when the function does something else at other sizes.
 */
export function merged(traces: readonly TracedGraph[], specs: Specs, sizes: readonly Sizes[]): RunGraph {
  checkAlike(traces);
  return new Merge(traces, specs, sizes).graph();
}

class Merge {
  readonly #traces: readonly TracedGraph[];
  readonly #specs: Specs;
  readonly #open: DynamicGraph;
  /** The constants of each trace, by name. */
  readonly #constants: readonly ReadonlyMap<string, GraphConstant>[];
  /** The merged graph's name for each value of each trace. */
  readonly #values: readonly Map<string, string>[];
  /** The values that replace constants, by the names of these constants. */
  readonly #replacement = new Map<string, Replacement>();
  /** The open shapes that ONNX Runtime cannot find itself. */
  readonly #shapes: ModelPort[] = [];

  constructor(traces: readonly TracedGraph[], specs: Specs, sizes: readonly Sizes[]) {
    const [first] = traces as [TracedGraph];
    this.#traces = traces;
    this.#specs = specs;
    this.#open = new DynamicGraph(specs, new Map(first.inputs.map(({ key, name }) => [key, name])), sizes);
    this.#constants = traces.map((trace) => new Map(trace.constants.map((constant) => [constant.name, constant])));
    this.#values = traces.map((trace) => new Map(trace.inputs.map(({ name }) => [name, name])));
  }

  /** @throws NotDynamic */
  graph(): RunGraph {
    const [first] = this.#traces as [TracedGraph];
    first.nodes.forEach((node, index) => {
      this.#add(node, index);
    });
    const outputs = first.outputs.map((port, index) => this.#output(port, index));
    const inputs = first.inputs.map((port) => ({ ...port, shape: (this.#specs[port.key] as Specs[string]).shape }));
    const { nodes, constants, sizeInputs } = this.#open;
    const shapes = nodes.length > MANY_NODES ? this.#shapes : [];
    return { nodes, constants, inputs: [...inputs, ...sizeInputs.values()], outputs, shapes };
  }

  #add(node: GraphNode, index: number): void {
    const twins = this.#traces.map(({ nodes }) => nodes[index] as GraphNode);
    const inputs = node.inputs.map((_, slot) => {
      const read = twins.map((twin) => twin.inputs[slot] as string);
      return this.#constant(node, slot, read) ?? { name: this.#value(node, read), mayHoldZero: false };
    });
    twins.forEach(({ outputs }, trace) => {
      outputs.forEach((name, place) => this.#values[trace]?.set(name, node.outputs[place] as string));
    });
    const attributes = inputs.some((input) => input.mayHoldZero)
      ? { ...node.attributes, allowzero: 1 }
      : node.attributes;
    this.#open.nodes.push({ ...node, inputs: inputs.map(({ name }) => name), attributes });
    if (RESIZING.has(node.op)) this.#nameSizes(node, twins);
  }

  /** Names the open sizes of a node's outputs: equal ones alike. */
  #nameSizes({ outputs }: GraphNode, twins: readonly GraphNode[]): void {
    outputs.forEach((name, place) => {
      const found = twins.flatMap(({ traced }) => traced?.made[place] ?? []);
      const [first] = found;
      if (!first || found.length < twins.length) return;
      const dims = this.#open.fitted(found.map(({ shape }) => shape));
      if (typeof dims === 'string' || dims.every((dim) => constantOf(dim) !== undefined)) return;
      this.#shapes.push({ name, dtype: first.dtype, shape: dims.map(shownDimension) });
    });
  }

  /** The value that replaces the constants that the traces read here; undefined where they read none. */
  #constant(node: GraphNode, slot: number, read: readonly string[]): Replacement | undefined {
    const constants = read.flatMap((name, trace) => this.#constants[trace]?.get(name) ?? []);
    if (constants.length === 0) return undefined;
    if (constants.length < read.length) throw new NotDynamic('an operand is constant for some sizes only', node);
    const isShape = node.op === 'Reshape' && slot === 1;
    const key = `${isShape ? 'shape ' : ''}${read.join()}`;
    const replacement =
      this.#replacement.get(key) ??
      (isShape ? this.#shape(constants) : undefined) ??
      ({ name: unifiedConstant(this.#open, constants, node), mayHoldZero: false } satisfies Replacement);
    this.#replacement.set(key, replacement);
    return replacement;
  }

  /** The new shape of a Reshape; undefined where it does not follow from the sizes. */
  #shape(constants: readonly GraphConstant[]): Replacement | undefined {
    const dims = constants.every(({ shape }) => shape[0] === constants[0]?.shape[0])
      ? this.#open.fitted(constants.map(({ data }) => data))
      : 'none';
    if (typeof dims === 'string') return undefined;
    const known = dims.map(constantOf);
    const open = known.filter((dim) => dim === undefined).length;
    // If only one dimension depends on the sizes, ONNX infers it from -1.
    if (open === 1 && !known.includes(0)) {
      return { name: this.#open.integers(known.map((dim) => dim ?? -1)), mayHoldZero: false };
    }
    return { name: this.#open.vector(dims), mayHoldZero: open > 1 };
  }

  /**
   * The merged graph's name for the value that the traces read here. @throws NotDynamic when the traces read different
   * values.
   */
  #value(node: GraphNode | undefined, read: readonly string[]): string {
    const [first, ...others] = read.map((name, trace) => this.#values[trace]?.get(name));
    if (first !== undefined && others.every((other) => other === first)) return first;
    throw new NotDynamic('other sizes use other values', node);
  }

  #output(port: RunPort, index: number): RunPort {
    const ports = this.#traces.map(({ outputs }) => outputs[index]);
    if (!ports.every((other) => other?.key === port.key)) throw new NotDynamic('other sizes have other outputs');
    const name = this.#value(
      undefined,
      ports.map((other) => other?.name ?? ''),
    );
    const shapes = ports.map((other) => other?.shape ?? []);
    const isOneRank = shapes.every(({ length }) => length === port.shape.length);
    const dims = isOneRank ? this.#open.fitted(shapes) : 'none';
    if (typeof dims !== 'string') {
      return { ...port, name, shape: dims.map(shownDimension) };
    }
    const mayFollow = dims === 'undetermined';
    throw new NotDynamic(`the shape of the output '${port.key}' does not follow from the sizes`, undefined, mayFollow);
  }
}

/**
 * The number of nodes above which open sizes get names. Values that share memory hold it from the first to the last: a
 * step of MiniLM then takes 3 % more memory, one of a decoder of 30 layers 3 % less, and that one opens in a quarter of
 * the time.
 */
const MANY_NODES = 3000;

/** Operators whose outputs have sizes that the graph computes. */
const RESIZING: ReadonlySet<string> = new Set(['Reshape', 'Expand', 'Slice', 'Split', 'Concat', 'Pad', 'Tile', 'If']);

/** Returns a size, or the name of one that follows from the named axes. */
function shownDimension(dim: Polynomial): number | string {
  return constantOf(dim) ?? shownPolynomial(dim);
}

/** A value that replaces constants. */
interface Replacement {
  /** The graph's name for it. */
  readonly name: string;
  /** For the shape of a Reshape: whether a zero in it is a size, rather than ONNX's "copy the old dimension". */
  readonly mayHoldZero: boolean;
}

/** @throws NotDynamic unless the traces have the same inputs, and the same operators in the same order. */
function checkAlike(traces: readonly TracedGraph[]): void {
  const [first, ...others] = traces as [TracedGraph, ...TracedGraph[]];
  for (const { nodes, inputs } of others) {
    const index = first.nodes.findIndex((node, place) => !isTwin(node, nodes[place]));
    const node = first.nodes[index];
    if (node) throw new NotDynamic(`other sizes have other operators from node ${index} on`, node);
    if (nodes.length !== first.nodes.length) {
      throw new NotDynamic(`${first.nodes.length} nodes for some sizes and ${nodes.length} for others`);
    }
    if (inputs.length !== first.inputs.length || !inputs.every(({ key }, place) => key === first.inputs[place]?.key)) {
      throw new NotDynamic('other sizes have other inputs');
    }
  }
}

function isTwin(node: GraphNode, other: GraphNode | undefined): boolean {
  return (
    other !== undefined &&
    node.op === other.op &&
    node.domain === other.domain &&
    node.inputs.length === other.inputs.length &&
    node.outputs.length === other.outputs.length &&
    shownAttributes(node.attributes) === shownAttributes(other.attributes)
  );
}
