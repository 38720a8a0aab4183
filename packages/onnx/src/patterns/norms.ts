import type { Node } from '../format/model.js';
import type { Graph } from '../graph.js';
import { numberIn, numbersIn } from '../operators/operator.js';
import { either, isSame } from './matching.js';

/**
 * Puts LayerNormalization and RMSNormalization in place of the operators that they were exported as:
 *
 *   c = x - mean(x)     y = c / sqrt(mean(c^2) + epsilon) * gain + shift
 *   y = x / sqrt(mean(x^2) + epsilon) * gain
 */
export function replaceNorms(graph: Graph): void {
  for (const node of graph.file.nodes) {
    const [output = ''] = node.outputs;
    const norm = layerNorm(graph, node) ?? rmsNorm(graph, node);
    if (norm)
      graph.replace(output, {
        ...norm,
        domain: '',
        name: node.name,
        ...(node.module !== undefined && { module: node.module }),
      });
  }
}

function layerNorm(graph: Graph, node: Node): Pick<Node, 'op' | 'inputs' | 'attributes'> | undefined {
  if (node.op !== 'Add') return undefined;
  return either(node.inputs, (scaled, shift) => {
    const product = graph.made(scaled, 'Mul');
    if (!product || !isVector(graph, shift)) return undefined;
    return either(product.inputs, (normed, gain) => {
      const found = isVector(graph, gain) ? overRoot(graph, normed) : undefined;
      const x = found && centredOn(graph, found.dividend);
      if (x === undefined || !isSame(graph, found?.dividend ?? '', found?.squared ?? '')) return undefined;
      return { op: 'LayerNormalization', inputs: [x, gain, shift], attributes: { axis: -1, epsilon: found?.epsilon } };
    });
  });
}

function rmsNorm(graph: Graph, node: Node): Pick<Node, 'op' | 'inputs' | 'attributes'> | undefined {
  if (node.op !== 'Mul') return undefined;
  return either(node.inputs, (normed, gain) => {
    const found = isVector(graph, gain) ? overRoot(graph, normed) : undefined;
    if (!found || !isSame(graph, found.dividend, found.squared) || centredOn(graph, found.dividend) !== undefined)
      return undefined;
    const attributes = { axis: -1, epsilon: found.epsilon };
    return { op: 'RMSNormalization', inputs: [graph.source(found.dividend), gain], attributes };
  });
}

interface OverRoot {
  readonly dividend: string;
  readonly squared: string;
  readonly epsilon: number;
}

/** Matches d / sqrt(mean(s^2) + epsilon), also as a product with the reciprocal. */
function overRoot(graph: Graph, name: string): OverRoot | undefined {
  const quotient = graph.made(name, 'Div');
  if (quotient) return withRoot(graph, quotient.inputs[0] ?? '', quotient.inputs[1] ?? '');
  return either(graph.made(name, 'Mul')?.inputs ?? [], (dividend, inverse) => {
    const reciprocal = graph.made(inverse, 'Reciprocal') ?? graph.made(inverse, 'Div');
    const isOne = reciprocal?.op === 'Reciprocal' || graph.number(reciprocal?.inputs[0]) === 1;
    return reciprocal && isOne ? withRoot(graph, dividend, reciprocal.inputs.at(-1) ?? '') : undefined;
  });
}

function withRoot(graph: Graph, dividend: string, root: string): OverRoot | undefined {
  const sum = graph.made(graph.made(root, 'Sqrt')?.inputs[0] ?? '', 'Add');
  return either(sum?.inputs ?? [], (mean, offset) => {
    const epsilon = graph.number(offset);
    const squares = meanOf(graph, mean);
    const squared = squares === undefined ? undefined : squareOf(graph, squares);
    return epsilon !== undefined && squared !== undefined ? { dividend, squared, epsilon } : undefined;
  });
}

/** Returns x of x - mean(x). */
function centredOn(graph: Graph, name: string): string | undefined {
  const [x = '', mean = ''] = graph.made(name, 'Sub')?.inputs ?? [];
  const of = meanOf(graph, mean);
  return of !== undefined && graph.source(of) === graph.source(x) ? x : undefined;
}

/** Returns x of the mean over the last axis. */
function meanOf(graph: Graph, name: string): string | undefined {
  const node = graph.made(name, 'ReduceMean');
  if (!node || numberIn(node, 'keepdims', 1) !== 1) return undefined;
  const axes = numbersIn(node, 'axes') ?? graph.constant(node.inputs[1] ?? '')?.numbers();
  return axes?.join() === '-1' ? node.inputs[0] : undefined;
}

/** Returns x of x^2. */
function squareOf(graph: Graph, name: string): string | undefined {
  const power = graph.made(name, 'Pow');
  if (power) return graph.number(power.inputs[1]) === 2 ? power.inputs[0] : undefined;
  const [a, b] = graph.made(name, 'Mul')?.inputs ?? [];
  return a === b ? a : undefined;
}

function isVector(graph: Graph, name: string): boolean {
  return graph.constant(name)?.shape.length === 1;
}
