import type { GraphPort } from './graph.js';
import type { ModelGraph } from './onnx.js';

/** A graph of one trace: it knows the sizes of its inputs and outputs. */
type Traced = ModelGraph<GraphPort>;

/** A change of a graph that leaves what it computes as it is. */
export interface GraphPass {
  /** What it does, in a few words. */
  readonly name: string;
  /** What that is good for. */
  readonly reason: string;
  /** Returns the changed graph. */
  readonly apply: (graph: Traced) => Traced;
}

/**
 * What happens to every trace before it is merged with others and opened, in this order. A pass that does something else
 * at other sizes makes the function compile once for each size.
 */
export const passes: readonly GraphPass[] = [
  {
    name: 'dead nodes',
    reason: 'a function and its gradients compute and store more than their outputs depend on',
    apply: withoutDeadNodes,
  },
  {
    name: 'unread outputs',
    reason: 'ONNX Runtime need not compute or keep the moments of a norm whose gradient is not asked for',
    apply: withoutUnreadOutputs,
  },
];

function withoutDeadNodes({ nodes, constants, inputs, outputs }: Traced): Traced {
  const needed = new Set(outputs.map(({ name }) => name));
  // Nodes are in the order of computation, so one pass from the back finds all that is needed.
  const live = nodes.toReversed().filter((node) => {
    const isLive = node.outputs.some((name) => needed.has(name));
    if (isLive) for (const name of node.inputs) needed.add(name);
    return isLive;
  });
  const isNeeded = ({ name }: { readonly name: string }): boolean => needed.has(name);
  return { nodes: live.reverse(), constants: constants.filter(isNeeded), inputs: inputs.filter(isNeeded), outputs };
}

/** Leaves out the last outputs of nodes if nothing reads them; ONNX knows outputs by their places. */
function withoutUnreadOutputs(graph: Traced): Traced {
  const read = new Set([...graph.nodes.flatMap(({ inputs }) => inputs), ...graph.outputs.map(({ name }) => name)]);
  const nodes = graph.nodes.map((node) => ({
    ...node,
    outputs: node.outputs.slice(0, node.outputs.findLastIndex((name) => read.has(name)) + 1),
  }));
  return { ...graph, nodes };
}
