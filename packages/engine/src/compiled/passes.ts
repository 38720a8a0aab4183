import type { GraphNode, GraphPort, Subgraph } from './parts.js';
import type { ModelGraph, ModelPort } from './onnx.js';

/** A graph of one trace: it knows the sizes of its inputs and outputs. */
type Traced = ModelGraph<GraphPort>;

/**
 * What happens to every trace before it is merged with others and opened, in this order. A pass that does something
 * else at other sizes makes the function compile once for each size.
 */
export const passes: readonly ((graph: Traced) => Traced)[] = [withoutDeadNodes, withoutUnreadOutputs];

/** Leaves out nodes that no output depends on: a function and its gradients compute and store more than that. */
export function withoutDeadNodes<Graph extends ModelGraph<ModelPort> | Subgraph>(graph: Graph): Graph {
  const { nodes, constants, inputs, outputs } = graph;
  const needed = new Set(outputs.map(({ name }) => name));
  // Nodes are in the order of computation, so one pass from the back finds all that is needed.
  const live = nodes.toReversed().filter((node) => {
    const isLive = node.outputs.some((name) => needed.has(name));
    if (isLive) for (const name of node.inputs) needed.add(name);
    return isLive;
  });
  const isNeeded = ({ name }: { readonly name: string }): boolean => needed.has(name);
  return { ...graph, nodes: live.reverse(), constants: constants.filter(isNeeded), inputs: inputs.filter(isNeeded) };
}

/**
 * Leaves out the last outputs of nodes if nothing reads them, e.g. the moments of a norm whose gradient is not asked
 * for. ONNX knows outputs by their places, and a Split has all of its parts.
 */
function withoutUnreadOutputs(graph: Traced): Traced {
  const read = new Set([...graph.nodes.flatMap(({ inputs }) => inputs), ...graph.outputs.map(({ name }) => name)]);
  const nodes = graph.nodes.map((node) => {
    if (node.op === 'Split') return node;
    const outputs = node.outputs.slice(0, node.outputs.findLastIndex((name) => read.has(name)) + 1);
    return { ...node, outputs, ...(node.op === 'If' && { attributes: branches(node, outputs.length) }) };
  });
  return { ...graph, nodes };
}

/** The branches of a node, cut to its first outputs. They still capture the same values. */
function branches({ attributes }: GraphNode, count: number): GraphNode['attributes'] {
  const cut = Object.entries(attributes as Readonly<Record<string, { graph: Subgraph }>>).map(([key, { graph }]) => {
    const live = withoutDeadNodes({ ...graph, outputs: graph.outputs.slice(0, count) });
    return [key, { graph: { ...live, inputs: graph.inputs } }] as const;
  });
  return Object.fromEntries(cut);
}
