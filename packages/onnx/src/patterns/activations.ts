import type { Graph } from '../graph.js';
import { pattern } from './matching.js';

/** The product of x, 1/2 and a gate, in any order. */
const halved = (gate: string) =>
  pattern(`{Mul(0.5, Mul(x, ${gate})) | Mul(x, Mul(0.5, ${gate})) | Mul(${gate}, Mul(0.5, x))}`);

const gelu = halved(`Add(1, Erf({Div(x, ${Math.SQRT2}) | Mul(x, ${Math.SQRT1_2})}))`);
const geluTanh = halved(`Add(1, Tanh(Mul(${Math.sqrt(2 / Math.PI)}, Add(x, Mul(0.044715, Pow(x, 3))))))`);
const silu = pattern('Mul(x, Sigmoid(x))');

/**
 * Puts Gelu and Silu in place of the operators that they were exported as:
 *
 *   x / 2 (1 + erf(x / sqrt 2))     x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))     x sigma(x)
 */
export function replaceActivations(graph: Graph): void {
  for (const { op, name, outputs } of graph.file.nodes) {
    if (op !== 'Mul') continue;
    const [output = ''] = outputs;
    const [exact, tanh] = [gelu(graph, output), geluTanh(graph, output)];
    const { x } = exact ?? tanh ?? {};
    const gated = silu(graph, output)?.['x'];
    if (x !== undefined) {
      const attributes = { approximate: exact ? 'none' : 'tanh' };
      graph.replace(output, { op: 'Gelu', domain: '', name, inputs: [x], attributes });
    } else if (gated !== undefined) graph.replace(output, { op: 'Silu', name, inputs: [gated] });
  }
}
