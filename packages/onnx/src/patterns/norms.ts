import type { Node } from '../format/model.js';
import type { Graph } from '../graph.js';
import { pattern } from './matching.js';

/** c / sqrt(mean(c^2) + epsilon), also as a product with the reciprocal */
const ROOT = 'Sqrt(Add(ReduceMean({Pow(c, 2) | Mul(c, c)}), epsilon))';
const NORMED = `{Div(c, ${ROOT}) | Mul(c, Reciprocal(${ROOT})) | Mul(c, Div(1, ${ROOT}))}`;

const layerNorm = pattern(`Add(Mul(${NORMED}, gain), shift)`);
const rmsNorm = pattern(`Mul(${NORMED}, gain)`);
const centred = pattern('Sub(x, ReduceMean(x))');

/**
 * Puts LayerNormalization and RMSNormalization in place of the operators that they were exported as:
 *
 *   c = x - mean(x)     y = c / sqrt(mean(c^2) + epsilon) * gain + shift
 *   y = x / sqrt(mean(x^2) + epsilon) * gain
 */
export function replaceNorms(graph: Graph): void {
  for (const { op, name, module, outputs } of graph.file.nodes) {
    const [output = ''] = outputs;
    const norm = op === 'Add' || op === 'Mul' ? normOf(graph, output) : undefined;
    if (norm) graph.replace(output, { ...norm, domain: '', name, ...(module !== undefined && { module }) });
  }
}

function normOf(graph: Graph, output: string): Pick<Node, 'op' | 'inputs' | 'attributes'> | undefined {
  const { c = '', gain = '', shift, epsilon } = layerNorm(graph, output) ?? rmsNorm(graph, output) ?? {};
  const { x } = centred(graph, c) ?? {};
  const number = graph.number(epsilon);
  const vectors = [gain, ...(shift === undefined ? [] : [shift])];
  if (number === undefined || vectors.some((name) => graph.constant(name)?.shape.length !== 1)) return undefined;
  if ((x === undefined) !== (shift === undefined)) return undefined;
  const op = x === undefined ? 'RMSNormalization' : 'LayerNormalization';
  return { op, inputs: [x ?? graph.source(c), ...vectors], attributes: { axis: -1, epsilon: number } };
}
