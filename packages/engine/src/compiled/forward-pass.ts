/** The forward pass of a function that computes gradients, and what it keeps in memory for the backward pass. */
import { sizeOf } from '@peftjs/core/method';
import type { Sizes } from '../axes.js';
import type { ElementType, GraphNode, NodeOutput } from './parts.js';
import type { ModelGraph } from './onnx.js';

/**
 * Estimates the bytes that a function keeps of its forward pass for its backward pass, at other sizes than those of its
 * traces. A tensor's bytes are taken to be proportional to a product of powers of the sizes: the one that fits the
 * first two traces best.
 */
export function keptBytesAt(at: Sizes, traces: readonly ModelGraph[], sizes: readonly Sizes[]): number {
  const [first = [], second = first] = traces.map(keptBytes);
  const [from = {}, to = from] = sizes;
  const powers = Object.keys(from).reduce(
    (below, axis) => {
      const [known, own] = [to, at].map((other) =>
        Math.log((other[axis] ?? (from[axis] as number)) / (from[axis] as number)),
      ) as [number, number];
      return below.flatMap((power) =>
        [0, 1, 2].map((exponent) => ({ known: power.known + exponent * known, own: power.own + exponent * own })),
      );
    },
    [{ known: 0, own: 0 }],
  );
  return first.reduce((sum, bytes, index) => {
    if (bytes === 0) return sum;
    const growth = Math.log((second[index] ?? bytes) / bytes);
    const distances = powers.map(({ known }) => Math.abs(known - growth));
    return sum + bytes * Math.exp(powers[distances.indexOf(Math.min(...distances))]?.own ?? 0);
  }, 0);
}

/** Returns the bytes of each tensor that the graph keeps of its forward pass for later. */
function keptBytes(graph: ModelGraph): number[] {
  return [...new ForwardPass(graph).tensors].flatMap(({ isSaved, bytes }) => (isSaved ? [bytes] : []));
}

/** The bytes of an element. */
const BYTES: Readonly<Record<ElementType, number>> = { float32: 4, int32: 4, int64: 8, int8: 1, uint8: 1, bool: 1 };

/** Operators whose output shares the memory of their first input. */
const VIEWS: ReadonlySet<string> = new Set(['Reshape', 'Identity']);

/** A tensor that the forward pass computes; its views count as the same tensor. */
interface ComputedTensor extends NodeOutput {
  readonly bytes: number;
  /** The place of the node that computes it. */
  readonly place: number;
  /** The place of the last node of the forward pass that reads it. */
  lastRead: number;
  /** Whether it is read after the forward pass. */
  isSaved: boolean;
}

/** The nodes of a graph's forward pass, by their places in it, and what they need of memory. */
export class ForwardPass {
  readonly nodes: readonly GraphNode[];
  /** The tensors that it computes, in order. */
  readonly tensors = new Set<ComputedTensor>();
  /** The names of its values that are read after it. */
  readonly saved = new Set<string>();
  /** The bytes that are computed before each place and read after the forward pass. */
  readonly savedBefore: readonly number[];
  /** The bytes that are computed before each place and read by the forward pass from there on. */
  readonly crossing: readonly number[];
  readonly #tensorOf = new Map<string, ComputedTensor>();

  constructor({ nodes, outputs }: ModelGraph) {
    this.nodes = nodes.filter(isForward);
    for (const [place, node] of this.nodes.entries()) {
      for (const name of node.inputs) {
        const read = this.#tensorOf.get(name);
        if (read) read.lastRead = place;
      }
      for (const [index, name] of node.outputs.entries()) this.#tensorOf.set(name, this.#made(node, index, place));
    }
    const later = nodes.flatMap((node) => (isForward(node) ? [] : node.inputs));
    for (const name of [...later, ...outputs.map((port) => port.name)]) {
      const read = this.#tensorOf.get(name);
      if (!read) continue;
      read.isSaved = true;
      this.saved.add(name);
    }
    const tensors = [...this.tensors];
    this.savedBefore = this.#sums(
      tensors.flatMap(({ bytes, place, isSaved }) => (isSaved ? [[place, bytes] as const] : [])),
    );
    this.crossing = this.#sums(
      tensors.flatMap(({ bytes, place, lastRead }) => [[place, bytes] as const, [lastRead, -bytes] as const]),
    );
  }

  /** The tensor of a value; undefined for a value that the forward pass does not compute. */
  tensor(name: string): ComputedTensor | undefined {
    return this.#tensorOf.get(name);
  }

  /** The sum, before each place, of the bytes that change at earlier ones. */
  #sums(changes: readonly (readonly [place: number, bytes: number])[]): number[] {
    const after = new Array<number>(this.nodes.length + 1).fill(0);
    for (const [place, bytes] of changes) after[place + 1] = (after[place + 1] as number) + bytes;
    let sum = 0;
    return after.map((bytes) => (sum += bytes));
  }

  #made(node: GraphNode, index: number, place: number): ComputedTensor {
    const shown = VIEWS.has(node.op) ? this.tensor(node.inputs[0] ?? '') : undefined;
    if (shown) return shown;
    const output = node.traced?.made[index] as NodeOutput;
    const bytes = BYTES[output.dtype] * sizeOf(output.shape);
    const tensor = { ...output, bytes, place, lastRead: place, isSaved: false };
    this.tensors.add(tensor);
    return tensor;
  }
}

/** Whether a node belongs to the forward pass. */
export function isForward({ traced }: GraphNode): boolean {
  return traced?.pass === 'forward';
}
