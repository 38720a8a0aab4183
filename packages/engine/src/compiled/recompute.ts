/**
 * Recomputation, or gradient checkpointing: the backward pass computes values of the forward pass again instead of
 * keeping all of them in memory until it reads them.
 *
 * The forward pass is cut into segments where few bytes cross, which in a transformer is between two layers. A value
 * that crosses a cut is kept. Whatever else the backward pass reads of a segment is computed again from kept values, by
 * copies of the segment's nodes, once the gradient of the following segment is known. The numbers stay the same to the
 * bit. The last segment is not computed again: its backward pass follows at once.
 */
import { ForwardPass, isForward } from './forward-pass.js';
import { ELEMENT_NUMBERS, standardNode } from './parts.js';
import type { GraphConstant, GraphNode } from './parts.js';
import { withoutDeadNodes } from './passes.js';
import type { ModelGraph, ModelPort } from './onnx.js';

/** Returns the graph with recomputation. A graph that has no gradients, or would not need less memory, stays as is. */
export function recomputed<Port extends ModelPort>(graph: ModelGraph<Port>): ModelGraph<Port> {
  const forward = new ForwardPass(graph);
  const segments = cheapestSegments(forward);
  return segments.length === 1 ? graph : withRepeats(graph, forward, segments);
}

/** A part of the forward pass: its nodes from place `from` to before `to`. */
interface Segment {
  readonly from: number;
  readonly to: number;
}

/** Segments that save less than this share of everything are not tried. */
const FINEST = 1 / 500;
/** Each try has segments smaller by this factor. */
const FINER = 0.9;
/** Fewer and larger segments are chosen if they need at most so much more memory. */
const TOLERANCE = 1.03;

/** Returns the segments with the lowest peak of memory; a single one where more would not help. */
function cheapestSegments(forward: ForwardPass): readonly Segment[] {
  const all = forward.savedBefore.at(-1) as number;
  let best = { segments: segmentsOf(forward, all), peak: all };
  for (let share = FINER; share > FINEST; share *= FINER) {
    const segments = segmentsOf(forward, share * all);
    const peak = peakOf(forward, segments);
    if (peak * TOLERANCE < best.peak) best = { segments, peak };
  }
  return best.segments;
}

/** Cuts into segments that save at most `most` bytes each, where the fewest bytes cross; in a tie, later. */
function segmentsOf({ savedBefore, crossing, nodes }: ForwardPass, most: number): Segment[] {
  const segments: Segment[] = [];
  const savedBy = (from: number, to: number): number => (savedBefore[to] as number) - (savedBefore[from] as number);
  let from = 0;
  while (savedBy(from, nodes.length) > most) {
    let cut = from + 1;
    for (let to = cut; to < nodes.length && savedBy(from, to) <= most; to++) {
      if ((crossing[to] as number) <= (crossing[cut] as number)) cut = to;
    }
    if (cut === nodes.length) break;
    segments.push({ from, to: cut });
    from = cut;
  }
  return [...segments, { from, to: nodes.length }];
}

/** Returns the bytes kept from the forward pass while the backward pass is in the segment that needs most of them. */
function peakOf({ tensors }: ForwardPass, segments: readonly Segment[]): number {
  const own = segments.map(() => 0);
  let kept = 0;
  let at = 0;
  for (const { bytes, place, lastRead, isSaved } of tensors) {
    while (place >= (segments[at] as Segment).to) at++;
    if (lastRead >= (segments[at] as Segment).to) kept += bytes;
    else if (isSaved) own[at] = (own[at] as number) + bytes;
  }
  return kept + Math.max(...own);
}

/** An operand that is held back. */
interface Waiting {
  readonly name: string;
  readonly dtype: 'float32' | 'int32' | 'uint8';
}

/** What is computed again of a segment. */
interface Repeat {
  /** The place of the segment. */
  readonly segment: number;
  /**
   * The nodes, and for each that reads no value that is computed again, the operand that has to wait in place of one.
   */
  readonly nodes: readonly { readonly node: GraphNode; readonly waits: Waiting | undefined }[];
  /** The values that are computed again. */
  readonly values: ReadonlySet<string>;
}

/** Adds what is computed again before the first node that reads it. */
function withRepeats<Port extends ModelPort>(
  graph: ModelGraph<Port>,
  forward: ForwardPass,
  segments: readonly Segment[],
): ModelGraph<Port> {
  const repeats = segments.slice(0, -1).map((segment, place) => repeatOf(graph, forward, segment, place));
  const repeatWith = new Map(repeats.flatMap((repeat) => [...repeat.values].map((name) => [name, repeat] as const)));
  const signal = signals(graph, forward, segments, repeats);
  const again = new Map<string, string>();
  const nodes = graph.nodes.flatMap((node, index) => {
    if (isForward(node)) return [node];
    const missing = new Set(node.inputs.flatMap((name) => (again.has(name) ? [] : (repeatWith.get(name) ?? []))));
    const before = [...missing].flatMap((repeat) => {
      const gradient = signal(repeat.segment, index);
      return gradient === undefined ? [] : written(repeat, gradient, again);
    });
    return [...before, { ...node, inputs: node.inputs.map((name) => again.get(name) ?? name) }];
  });
  const shapes = graph.shapes?.flatMap((port) => {
    const name = again.get(port.name);
    return name === undefined ? [port] : [port, { ...port, name }];
  });
  const constants = [...graph.constants, ALL, FIRST, INFINITE];
  // Views that are only shown again would otherwise keep what they show.
  return withoutDeadNodes({ ...graph, nodes, constants, ...(shapes && { shapes }) });
}

/** Finds the nodes that compute what later nodes read of a segment, from values that are kept. */
function repeatOf(graph: ModelGraph, forward: ForwardPass, { from, to }: Segment, segment: number): Repeat {
  const isKept = (name: string): boolean => {
    const tensor = forward.tensor(name);
    return tensor === undefined || tensor.place < from || tensor.lastRead >= to;
  };
  const needed = new Set(forward.saved);
  const all = forward.nodes.slice(from, to).toReversed();
  const chosen = all.filter(({ inputs, outputs }) => {
    const isNeeded = outputs.some((name) => needed.has(name) && !isKept(name));
    if (isNeeded) for (const name of inputs) needed.add(name);
    return isNeeded;
  });
  const values = new Set<string>();
  const waiting = new Set<string>();
  const nodes = chosen.toReversed().flatMap((node) => {
    const isFirst = !node.inputs.some((name) => values.has(name));
    const waits = isFirst ? cheapestToHold(graph, forward, waiting, node) : undefined;
    if (isFirst && waits === undefined) return []; // computed once, as before: it depends on constants only
    if (waits !== undefined) waiting.add(waits.name);
    for (const name of node.outputs) if (!isKept(name)) values.add(name);
    return [{ node, waits }];
  });
  return { segment, nodes, values };
}

/** The operand to hold back: one that waits already, then a value of the forward pass, then the smallest input. */
function cheapestToHold(
  { inputs }: ModelGraph,
  forward: ForwardPass,
  waiting: ReadonlySet<string>,
  node: GraphNode,
): Waiting | undefined {
  const operands = node.inputs.flatMap((name) => {
    const made = forward.tensor(name);
    const { dtype, shape } = made ?? inputs.find((port) => port.name === name) ?? {};
    if ((dtype !== 'float32' && dtype !== 'int32' && dtype !== 'uint8') || !shape) return [];
    const size = shape.reduce<number>((product, dim) => product * (typeof dim === 'number' ? dim : 1), 1);
    return [{ name, dtype, rank: waiting.has(name) ? 0 : made ? 1 : 2, size }];
  });
  return operands.sort((a, b) => a.rank - b.rank || a.size - b.size)[0];
}

/** A value of the backward pass. */
interface Gradient {
  readonly name: string;
  /** The index of the node that computes it. */
  readonly index: number;
  /** The index of the last node that reads it. */
  readonly lastRead: number;
  /** The earliest segment that it depends on, not counting the values that are kept. */
  readonly reached: number;
}

/**
 * Returns the function that finds what the repetition of a segment waits for: the newest gradient that is still needed
 * at a node and depends on the following segment.
 */
function signals(
  graph: ModelGraph,
  forward: ForwardPass,
  segments: readonly Segment[],
  repeats: readonly Repeat[],
): (segment: number, index: number) => string | undefined {
  const gradients = gradientsOf(graph, forward, segments, repeats);
  const hasValues = [...repeats.map(({ values }) => values.size > 0), true];
  return (segment, index) => {
    const following = hasValues.indexOf(true, segment + 1);
    return gradients.findLast((each) => each.index < index && each.lastRead >= index && each.reached <= following)
      ?.name;
  };
}

function gradientsOf(
  { nodes, outputs }: ModelGraph,
  forward: ForwardPass,
  segments: readonly Segment[],
  repeats: readonly Repeat[],
): Gradient[] {
  const last = segments.length - 1;
  const { from } = segments[last] as Segment;
  const reached = new Map(
    repeats.flatMap(({ segment, values }) => [...values].map((name) => [name, segment] as const)),
  );
  const lastRead = new Map(nodes.flatMap(({ inputs }, index) => inputs.map((name) => [name, index] as const)));
  for (const { name } of outputs) lastRead.set(name, Infinity);
  const reachOf = (name: string): number =>
    reached.get(name) ?? ((forward.tensor(name)?.place ?? -1) >= from ? last : Infinity);
  return nodes.flatMap((node, index) => {
    if (isForward(node)) return [];
    const reach = Math.min(...node.inputs.map(reachOf), Infinity);
    for (const name of node.outputs) reached.set(name, reach);
    return node.outputs.flatMap((name, place) => {
      const isGradient = node.traced?.pass === 'backward' && node.traced.made[place]?.dtype === 'float32';
      return isGradient ? [{ name, index, lastRead: lastRead.get(name) ?? -1, reached: reach }] : [];
    });
  });
}

/**
 * Writes the nodes that compute a segment again, and notes the names of its values in `again`. Operands that wait are
 * written as x + z, where z is -0 and depends on the gradient. That is x to the bit, but ONNX Runtime can neither
 * compute it before the gradient nor find it in the forward pass.
 */
function written({ segment, nodes, values }: Repeat, gradient: string, again: Map<string, string>): GraphNode[] {
  const prefix = `again${segment}:`;
  const held = new Set<string>();
  const made = zeroNodes(prefix, gradient);
  for (const { node, waits } of nodes) {
    if (waits && !held.has(waits.name)) {
      held.add(waits.name);
      const op = waits.dtype === 'uint8' ? 'BitwiseOr' : 'Add';
      made.push(standardNode(op, [waits.name, `${prefix}${waits.dtype}`], `${prefix}${waits.name}`));
    }
    const inputs = node.inputs.map((name) => again.get(name) ?? (name === waits?.name ? `${prefix}${name}` : name));
    const outputs = node.outputs.map((name) => `${prefix}${name}`);
    made.push({ ...node, inputs, outputs });
    for (const name of node.outputs) if (values.has(name)) again.set(name, `${prefix}${name}`);
  }
  return made;
}

/** The nodes of the zeros that depend on a gradient, one for each type, named by it. */
function zeroNodes(prefix: string, gradient: string): GraphNode[] {
  const names = { all: `${prefix}all`, one: `${prefix}one`, never: `${prefix}never`, int32: `${prefix}int32` };
  return [
    standardNode('Reshape', [gradient, ALL.name], names.all),
    standardNode('Gather', [names.all, FIRST.name], names.one, { axis: 0 }),
    standardNode('Greater', [names.one, INFINITE.name], names.never), // false also for NaN
    standardNode('Cast', [names.never], names.int32, { to: ELEMENT_NUMBERS.int32 }),
    standardNode('Cast', [names.never], `${prefix}uint8`, { to: ELEMENT_NUMBERS.uint8 }),
    standardNode('Cast', [names.never], `${prefix}plus`, { to: ELEMENT_NUMBERS.float32 }),
    standardNode('Neg', [`${prefix}plus`], `${prefix}float32`),
  ];
}

const ALL: GraphConstant = { name: 'again:all', dtype: 'int64', shape: [1], data: BigInt64Array.of(-1n) };
const FIRST: GraphConstant = { name: 'again:first', dtype: 'int64', shape: [], data: BigInt64Array.of(0n) };
const INFINITE: GraphConstant = {
  name: 'again:infinite',
  dtype: 'float32',
  shape: [],
  data: Float32Array.of(Infinity),
};
