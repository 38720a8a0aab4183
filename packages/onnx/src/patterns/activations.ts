import type { Node } from '../format/model.js';
import type { Graph } from '../graph.js';
import { either } from './matching.js';

/**
 * Puts Gelu and Silu in place of the operators that they were exported as:
 *
 *   x / 2 (1 + erf(x / sqrt 2))     x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))     x sigma(x)
 */
export function replaceActivations(graph: Graph): void {
  for (const node of graph.file.nodes) {
    const [output = ''] = node.outputs;
    const gated = node.op === 'Mul' ? (halved(graph, node.inputs) ?? silu(graph, node.inputs)) : undefined;
    if (gated) graph.replace(output, { ...gated, name: node.name });
  }
}

type Replacement = Pick<Node, 'op' | 'inputs' | 'attributes'> & Partial<Node>;

/** The product of x, 1/2 and a gate, in any order. */
function halved(graph: Graph, inputs: readonly string[]): Replacement | undefined {
  return either(inputs, (a, b) => {
    const inner = graph.made(b, 'Mul')?.inputs ?? [];
    const half = graph.number(a) === 0.5;
    return either(inner, (c, d) => {
      if (half) return gate(graph, c, d);
      return graph.number(c) === 0.5 ? (gate(graph, a, d) ?? gate(graph, d, a)) : undefined;
    });
  });
}

/** Matches x and 1 + erf(..) or 1 + tanh(..) of the same x. */
function gate(graph: Graph, x: string, open: string): Replacement | undefined {
  return either(graph.made(open, 'Add')?.inputs ?? [], (one, curve) => {
    if (graph.number(one) !== 1) return undefined;
    const [erf, tanh] = [graph.made(curve, 'Erf'), graph.made(curve, 'Tanh')];
    const isExact = erf !== undefined && isScaled(graph, erf.inputs[0] ?? '', x, Math.SQRT1_2);
    const isTanh = tanh !== undefined && isCubic(graph, tanh.inputs[0] ?? '', x);
    if (!isExact && !isTanh) return undefined;
    return { op: 'Gelu', domain: '', inputs: [x], attributes: { approximate: isTanh ? 'tanh' : 'none' } };
  });
}

/** Whether a value is x times a factor. */
function isScaled(graph: Graph, name: string, x: string, factor: number): boolean {
  const [dividend = '', divisor] = graph.made(name, 'Div')?.inputs ?? [];
  const isQuotient = isClose(1 / (graph.number(divisor) ?? 0), factor) && isX(graph, dividend, x);
  const scaled = either(graph.made(name, 'Mul')?.inputs ?? [], (of, by) =>
    isX(graph, of, x) && isClose(graph.number(by), factor) ? true : undefined,
  );
  return isQuotient || scaled === true;
}

/** Whether a value is sqrt(2 / pi) (x + 0.044715 x^3). */
function isCubic(graph: Graph, name: string, x: string): boolean {
  const found = either(graph.made(name, 'Mul')?.inputs ?? [], (factor, sum) => {
    if (!isClose(graph.number(factor), Math.sqrt(2 / Math.PI))) return undefined;
    return either(graph.made(sum, 'Add')?.inputs ?? [], (own, cubic) => {
      if (!isX(graph, own, x)) return undefined;
      return either(graph.made(cubic, 'Mul')?.inputs ?? [], (by, cube) => {
        const [base = '', exponent] = graph.made(cube, 'Pow')?.inputs ?? [];
        const isCube = graph.number(exponent) === 3 && isX(graph, base, x);
        return isCube && isClose(graph.number(by), 0.044715) ? true : undefined;
      });
    });
  });
  return found === true;
}

function silu(graph: Graph, inputs: readonly string[]): Replacement | undefined {
  return either(inputs, (x, open) => {
    const sigmoid = graph.made(open, 'Sigmoid');
    return sigmoid && isX(graph, sigmoid.inputs[0] ?? '', x) ? { op: 'Silu', inputs: [x], attributes: {} } : undefined;
  });
}

function isX(graph: Graph, name: string, x: string): boolean {
  return graph.source(name) === graph.source(x);
}

/** Files have float32 or float16 numbers. */
function isClose(value: number | undefined, to: number): boolean {
  return value !== undefined && Math.abs(value - to) < 1e-3 * to;
}
