import type { Node } from '../format/model.js';
import type { Graph } from '../graph.js';
import { numbersIn } from '../operators/operator.js';
import { OWN_DOMAIN } from '../operators/own.js';
import { either, pattern } from './matching.js';

/**
 * Puts Attention in place of the operators that it was exported as: softmax(q k^T s + masks) v within heads, where the
 * factors of s may stand before or after the product, a mask may be added or choose a low number in place of a score, and
 * rows without any key may be set to zero.
 */
export function replaceAttention(graph: Graph): void {
  const values = valuesIn(graph);
  for (const node of graph.file.nodes) {
    const [output = ''] = node.outputs;
    if (graph.producer(output)?.op !== 'MatMul') continue;
    const [weights = '', v = ''] = node.inputs;
    const softmax = graph.made(guarded(graph, weights)?.['p'] ?? weights, 'Softmax');
    if (!softmax || ![-1, 3].includes(softmax.attributes['axis'] as number)) continue;
    const scores = scoresOf(values, softmax.inputs[0] ?? '', 0);
    if (scores) graph.replace(output, attention(values, output, v, scores));
  }
}

/** The scores before the softmax. */
interface Scores {
  /** The left and the right side of the product. */
  readonly product: readonly string[];
  /** The factors of the product. */
  readonly factors: readonly Factor[];
  /** The terms of the scores. */
  readonly masks: readonly string[];
}

/** A number by which something is multiplied or divided. */
interface Factor {
  readonly op: 'Mul' | 'Div';
  readonly by: string;
}

function attention(
  values: Values,
  output: string,
  v: string,
  { product, factors, masks }: Scores,
): Pick<Node, 'op' | 'inputs' | 'attributes'> {
  const [q, kT] = product.map((side) => stripped(values, side)) as [Stripped, Stripped];
  const all = [...factors, ...q.factors, ...kT.factors];
  return {
    op: 'Attention',
    inputs: [q.of, keys(values.graph, output, kT.of), v, ...masks, ...all.map(({ by }) => by)],
    attributes: {
      masks: masks.length,
      factors: all.map(({ op }) => op),
      isLearned: Number(masks.some((mask) => values.learned.has(mask))),
    },
  };
}

/** What sets rows without any key to zero. */
const guarded = pattern('Where(IsNaN(p), 0, p)');

/** The most operators between a product and its softmax. */
const MOST_STEPS = 10;

function scoresOf(values: Values, name: string, steps: number): Scores | undefined {
  const { graph } = values;
  const node = graph.producer(graph.source(name));
  if (!node || steps > MOST_STEPS) return undefined;
  const inner = (of: string): Scores | undefined => scoresOf(values, of, steps + 1);
  const masked = (of: string, mask: () => string): Scores | undefined => {
    const scores = inner(of);
    return scores && { ...scores, masks: [...scores.masks, mask()] };
  };
  switch (node.op) {
    case 'MatMul':
      return either(node.inputs, (left, right) => ({ product: [left, right], factors: [], masks: [] }));
    case 'Mul':
    case 'Div': {
      const { of, factors } = stripped(values, name);
      const scores = factors.length > 0 ? inner(of) : undefined;
      return scores?.masks.length === 0 ? { ...scores, factors: [...scores.factors, ...factors] } : undefined;
    }
    case 'Add':
      return either(node.inputs, (of, mask) => masked(of, () => mask));
    case 'Where': {
      const [condition = '', a = '', b = ''] = node.inputs;
      const chosen = (x: string, y: string): string =>
        graph.add(node.outputs[0] ?? '', { op: 'MaskOf', inputs: [condition, x, y] });
      if (hides(graph, a)) return masked(b, () => chosen(a, ''));
      return hides(graph, b) ? masked(a, () => chosen('', b)) : undefined;
    }
    default:
      return undefined;
  }
}

/** Whether a number is so low that it hides a score, whether it replaces the score or is added to it. */
function hides(graph: Graph, name: string): boolean {
  return (graph.number(name) ?? 0) <= -1e3;
}

interface Stripped {
  readonly of: string;
  readonly factors: readonly Factor[];
}

/** Takes a number off a product or quotient. */
function stripped(values: Values, name: string): Stripped {
  const node = values.graph.producer(values.graph.source(name));
  const [dividend = '', divisor = ''] = node?.inputs ?? [];
  if (node?.op === 'Div' && isNumber(values, divisor)) return { of: dividend, factors: [{ op: 'Div', by: divisor }] };
  const product = node?.op === 'Mul' ? node.inputs : [];
  const found = either(product, (of, by) =>
    isNumber(values, by) ? { of, factors: [{ op: 'Mul' as const, by }] } : undefined,
  );
  return found ?? { of: name, factors: [] };
}

/** Operators that exporters compute the factors of scores with, from sizes. */
const OF_SIZES: ReadonlySet<string> = new Set([
  'Shape',
  'Slice',
  'Gather',
  'Squeeze',
  'Unsqueeze',
  'Cast',
  'Sqrt',
  'Pow',
  'Reciprocal',
  'Div',
  'Mul',
]);

/** Whether a value is one number: a constant, or computed from sizes alone. */
function isNumber({ graph, sized }: Values, name: string): boolean {
  if (graph.number(name) !== undefined) return true;
  const of = graph.source(name);
  return sized.has(of) && graph.producer(of)?.op !== 'Shape';
}

/** Returns the keys, given their transpose. */
function keys(graph: Graph, output: string, transposed: string): string {
  const turned = graph.made(transposed, 'Transpose');
  const order = turned && numbersIn(turned, 'perm');
  if (turned && order?.length === 4) {
    if (order.join() === '0,1,3,2') return turned.inputs[0] ?? '';
    const [a, b, c, d] = order as [number, number, number, number];
    const swapped = { op: 'Transpose', domain: '', inputs: turned.inputs, attributes: { perm: [a, b, d, c] } };
    return graph.add(`${output} keys`, swapped);
  }
  // As matrices, [batch * heads, keys, size]
  const matrices = graph.made(graph.made(transposed, 'Reshape')?.inputs[0] ?? '', 'Transpose');
  const before = graph.made(matrices?.inputs[0] ?? '', 'Reshape');
  if (before && matrices && numbersIn(matrices, 'perm')?.join() === '0,2,1') return before.inputs[0] ?? '';
  return graph.add(`${output} keys`, { op: 'SwapLast', inputs: [transposed] });
}

/** A graph, and what is known of its values. */
interface Values {
  readonly graph: Graph;
  /** Those that depend on a module, so that they have a gradient. */
  readonly learned: ReadonlySet<string>;
  /** Those that are computed from sizes alone. */
  readonly sized: ReadonlySet<string>;
}

function valuesIn(graph: Graph): Values {
  const [learned, sized] = [new Set<string>(), new Set<string>()];
  for (const { op, domain, inputs, outputs } of graph.order(graph.file.outputs.map(({ name }) => name))) {
    const isSize = (of: string): boolean => graph.constant(of) !== undefined || sized.has(graph.source(of));
    const isModule = domain === OWN_DOMAIN && MODULES.has(op);
    if (op === 'Shape' || (OF_SIZES.has(op) && inputs.every(isSize))) for (const name of outputs) sized.add(name);
    if (op === 'Shape' || op === 'Size') continue;
    if (isModule || inputs.some((name) => learned.has(name))) for (const name of outputs) learned.add(name);
  }
  return { graph, learned, sized };
}

const MODULES: ReadonlySet<string> = new Set(['Linear', 'Embedding', 'LayerNorm', 'RmsNorm']);
