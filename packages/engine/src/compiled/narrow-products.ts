/**
 * Products a^T b with a much narrower b, as the gradient of an adapter's first matrix is, x^T dy. A product copies the
 * left operand in the other order, which here takes longer than multiplying. As (b^T a)^T it copies b, and the same
 * terms are added in the same order.
 */
import type { ModelGraph, ModelPort } from './onnx.js';
import { standardNode, type GraphNode } from './parts.js';
import { withoutDeadNodes } from './passes.js';

/** Returns the graph with such products the other way round. The numbers stay the same. */
export function withNarrowProducts<Port extends ModelPort>(graph: ModelGraph<Port>): ModelGraph<Port> {
  const transposed = new Map(
    graph.nodes.filter(isTransposedMatrix).map(({ inputs, outputs }) => [outputs[0], inputs[0]] as const),
  );
  const nodes = graph.nodes.flatMap((node) => {
    const [left = '', right = ''] = node.inputs;
    const a = transposed.get(left);
    return a !== undefined && !transposed.has(right) && isNarrow(node) ? otherWayRound(node, a, right) : [node];
  });
  return withoutDeadNodes({ ...graph, nodes });
}

function isTransposedMatrix({ op, attributes: { perm } }: GraphNode): boolean {
  return op === 'Transpose' && (perm as readonly number[]).length === 2;
}

/** The least number of columns of a for each of b. */
const NARROW = 4;

function isNarrow({ op, traced }: GraphNode): boolean {
  const [rows = 0, columns = 0, ...more] = traced?.made[0]?.shape ?? [];
  return op === 'MatMul' && more.length === 0 && rows >= NARROW * columns;
}

function otherWayRound(node: GraphNode, a: string, b: string): GraphNode[] {
  const [output = ''] = node.outputs;
  const [flipped, product] = [`${output}:right`, `${output}:product`];
  const perm = [1, 0];
  return [
    standardNode('Transpose', [b], flipped, { perm }), // becomes a part of the product, as in a^T b
    standardNode('MatMul', [flipped, a], product),
    { ...node, ...standardNode('Transpose', [product], output, { perm }) },
  ];
}
