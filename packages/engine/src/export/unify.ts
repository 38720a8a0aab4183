import { EngineError } from '@peftjs/core';
import type { GraphConstant, GraphNode, GraphPort } from '../compiled/graph.js';
import type { ModelPort } from '../compiled/onnx.js';
import type { TracedGraph } from '../compiled/trace.js';
import { notOpen, type OpenGraph } from './open-graph.js';
import { constantOf, type Polynomial, type Sizes } from './sizes.js';
import { fittedEach, unified } from './varying.js';

/** Names of the open axes, as exporters of transformers have them. */
export const BATCH_AXIS = 'batch_size';
export const TOKEN_AXIS = 'sequence_length';

/** One function at several sizes, the most tokens last. */
export interface Traces {
  readonly graphs: readonly TracedGraph[];
  readonly sizes: readonly Sizes[];
}

/**
 * Writes what the traces have in common into an open graph.
 * @param names what the inputs of the traces are called there
 * @returns its outputs, under the names that the function gives them
 * @throws EngineError when the function does something else for other sizes.
 */
export function unify(traces: Traces, graph: OpenGraph, names: ReadonlyMap<string, string>): ModelPort[] {
  const { graphs } = traces;
  const [first] = graphs as [TracedGraph];
  checkAlike(graphs);
  const constants = graphs.map((trace) => new Map(trace.constants.map((constant) => [constant.name, constant])));
  const values = graphs.map(() => new Map(names));
  const used = usedNames(first);
  const results = new Map(first.outputs.map(({ name, key }) => [name, key]));
  const ownName = (name: string): string => results.get(name) ?? name;
  first.nodes.forEach((node, index) => {
    const twins = graphs.map((trace) => trace.nodes[index] as GraphNode);
    const inputs = node.inputs.map((_, slot) => {
      const read = twins.map(({ inputs }) => inputs[slot] as string);
      const held = read.flatMap((name, trace) => constants[trace]?.get(name) ?? []);
      return held.length > 0 ? heldValue(graph, traces, { node, slot, held }) : sameValue(values, read, node);
    });
    twins.forEach(({ outputs }, trace) => {
      outputs.forEach((name, place) => values[trace]?.set(name, ownName(node.outputs[place] as string)));
    });
    graph.nodes.push({ ...node, inputs, outputs: withoutUnread(node.outputs, used).map(ownName) });
  });
  return first.outputs.map((port, index) => openPort(traces, index, port));
}

/** @throws EngineError unless the traces have the same operators in the same order. */
function checkAlike(graphs: readonly TracedGraph[]): void {
  const [first, ...others] = graphs as [TracedGraph, ...TracedGraph[]];
  for (const { nodes } of others) {
    const index = first.nodes.findIndex((node, place) => !isTwin(node, nodes[place]));
    const node = first.nodes[index];
    if (node) throw notOpen(`other operators follow for other sizes from node ${index} on`, node);
    if (nodes.length !== first.nodes.length) {
      throw new EngineError(`the graph has ${first.nodes.length} nodes for some sizes and ${nodes.length} for others`);
    }
  }
}

function isTwin(node: GraphNode, other: GraphNode | undefined): boolean {
  const attributes = (at: GraphNode): string =>
    JSON.stringify([at.op, at.domain, at.attributes, at.inputs.length, at.outputs.length]);
  return other !== undefined && attributes(node) === attributes(other);
}

/** Constants in one place of a node. */
interface HeldPlace {
  readonly node: GraphNode;
  readonly slot: number;
  readonly held: readonly GraphConstant[];
}

function heldValue(graph: OpenGraph, { graphs, sizes }: Traces, { node, slot, held }: HeldPlace): string {
  if (held.length !== graphs.length) throw notOpen('a constant for some sizes, computed for others', node);
  return inferred(graph, { node, slot, held }, sizes) ?? unified(graph, { constants: held, sizes, node });
}

/** The one dimension of a new shape that the sizes decide, ONNX works out by itself. */
function inferred(graph: OpenGraph, { node, slot, held }: HeldPlace, sizes: readonly Sizes[]): string | undefined {
  if (node.op !== 'Reshape' || slot !== 1 || held.some(({ shape }) => shape[0] !== held[0]?.shape[0])) return undefined;
  const dims = fittedEach(
    held.map(({ data }) => Array.from(data, Number)),
    sizes,
  );
  const known = dims?.map((dim) => constantOf(dim) ?? -1) ?? [];
  return known.filter((dim) => dim === -1).length === 1 && !known.includes(0) ? graph.integers(known) : undefined;
}

/** What the values that the traces read here are called. @throws EngineError unless it is one value. */
function sameValue(values: readonly ReadonlyMap<string, string>[], read: readonly string[], node: GraphNode): string {
  const [first, ...others] = read.map((name, trace) => values[trace]?.get(name));
  if (first !== undefined && others.every((other) => other === first)) return first;
  throw notOpen('other values for other sizes', node);
}

/** What some node reads, or the graph gives. */
function usedNames({ nodes, outputs }: TracedGraph): ReadonlySet<string> {
  return new Set([...nodes.flatMap(({ inputs }) => inputs), ...outputs.map(({ name }) => name)]);
}

/** A node's last outputs may be left out. */
function withoutUnread(outputs: readonly string[], used: ReadonlySet<string>): readonly string[] {
  return outputs.slice(0, outputs.findLastIndex((name) => used.has(name)) + 1);
}

function openPort({ graphs, sizes }: Traces, index: number, { key, dtype }: GraphPort): ModelPort {
  const shapes = graphs.map(({ outputs }) => outputs[index]?.shape ?? []);
  const dims = fittedEach(shapes, sizes);
  if (dims === undefined) throw new EngineError(`the shape of the output '${key}' cannot be told from the sizes`, key);
  return { name: key, dtype, shape: dims.map(shownDimension) };
}

/** A size, or the name of one; sizes computed from both axes are called after them. */
function shownDimension(dim: Polynomial): number | string {
  return constantOf(dim) ?? dim.map(shownTerm).join(' + ');
}

function shownTerm({ coefficient, batchPower, tokensPower }: Polynomial[number]): string {
  const axes = [...Array<string>(batchPower).fill(BATCH_AXIS), ...Array<string>(tokensPower).fill(TOKEN_AXIS)];
  return [...(coefficient === 1 && axes.length > 0 ? [] : [String(coefficient)]), ...axes].join('*');
}
