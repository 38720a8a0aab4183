/**
 * The order of computation. ONNX Runtime starts at the nodes whose outputs no node reads, from the last one in the file
 * to the first, and computes before each node what it reads, again from the last one in the file to the first.
 *
 * So nodes are written in reverse: what the function computed first is computed first. And at the very end of the file
 * there are nodes that read all results of the backward pass, the gradients of weights: each of them is computed as
 * soon as it can be, and frees what it read. Otherwise, the first weight to be updated would need the whole backward
 * pass, which would keep all that the gradients of other weights read.
 */
import type { GraphConstant } from './parts.js';
import { ELEMENT_NUMBERS, renamedNode, standardNode } from './parts.js';
import type { ModelGraph, ModelPort } from './onnx.js';

/** Adds nodes that read all results of the backward pass, and writes all nodes in reverse. Numbers stay the same. */
export function ordered<Port extends ModelPort>(graph: ModelGraph<Port>): ModelGraph<Port> {
  const results = resultsOf(graph);
  const port = graph.outputs.find(({ dtype, shape }) => dtype === 'float32' && shape.length === 0);
  const nodes = graph.nodes.toReversed();
  if (results.length < 2 || port === undefined) return { ...graph, nodes };
  const before = `order:${port.name}`;
  const renamed = (name: string): string => (name === port.name ? before : name);
  const sizes = results.map((name, index) => standardNode('Size', [name], `order:${index}`));
  return {
    ...graph,
    nodes: [
      ...nodes.map((own) => renamedNode(own, renamed)),
      standardNode('Add', [before, 'order:zero'], port.name),
      standardNode('Mul', ['order:number', NONE.name], 'order:zero'),
      standardNode('Cast', ['order:largest'], 'order:number', { to: ELEMENT_NUMBERS.float32 }),
      standardNode(
        'Max',
        sizes.map(({ outputs }) => outputs[0] as string),
        'order:largest',
      ),
      ...sizes.reverse(),
    ],
    constants: [...graph.constants, NONE],
  };
}

/** The values of the backward pass that nodes after it read. */
function resultsOf({ nodes }: ModelGraph): string[] {
  const made = new Set(nodes.flatMap(({ traced, outputs }) => (traced?.pass === 'backward' ? outputs : [])));
  const read = new Set(nodes.flatMap(({ traced, inputs }) => (traced && traced.pass === undefined ? inputs : [])));
  return [...made].filter((name) => read.has(name));
}

const NONE: GraphConstant = { name: 'order:none', dtype: 'float32', shape: [], data: Float32Array.of(0) };
