/**
 * Attention within heads:
 *
 *   S = scale q k^T + bias        P = softmax(S)        y = P v
 *   dP = dy v^T        dS = P dP - P rowsum(P dP)        dq = scale dS k        dk = scale dS^T q        dv = P^T dy
 *
 * The weights P of short texts are kept for the backward pass. For long ones they would be the largest tensors of a
 * step: both passes then take {@link BLOCK} queries at a time, and the second computes P again (Dao et al., 2022,
 * without their blocks of keys). A block of a causal text multiplies only the keys up to its last query, and the bias
 * that hides the later ones exists for one block at a time.
 */
import { HIDDEN, type AttentionInputs, type AttentionSettings, type FusedKernels } from '@peftjs/core/nn';
import { GraphBuilder, type Value } from '../graph.js';
import type { GraphPort, Subgraph, SubgraphPort } from '../parts.js';
import { MICROSOFT, type FusedTable } from './kernel.js';

/** The queries of a block. */
const BLOCK = 128;

export const attention: Pick<FusedTable, 'PeftAttention' | 'PeftAttentionGrad'> = {
  PeftAttention(g, inputs, settings) {
    // Only the gradient reads the weights, and only a run knows whether they are kept.
    const unknown = [0, inputs.q.shape[1] as number, 0, 0];
    return byLength(g, inputs, settings, [inputs.q.shape, unknown], {
      kept(b, at) {
        const weights = weightsOf(b, at, settings, b.ints([0]));
        return [mixed(b, weights, at.v), weights];
      },
      blocks(b, at) {
        const none = b.constant(new Float32Array(0), 'float32', unknown);
        const read = (body: GraphBuilder, block: typeof at, from: Value): Value[] => [
          mixed(body, weightsOf(body, block, settings, from), block.v),
        ];
        return [...inBlocks(b, at, settings, { of: [at.q], read }), none];
      },
    }) as ReturnType<FusedKernels<Value>['PeftAttention']>;
  },
  PeftAttentionGrad(g, inputs, settings) {
    const { q, k, v } = inputs;
    return byLength(g, inputs, settings, [q.shape, k.shape, v.shape], {
      kept: (b, at) => gradients(b, at, at.weights, settings),
      blocks(b, { weights, ...at }) {
        const read = (body: GraphBuilder, block: typeof at, from: Value): Value[] =>
          gradients(body, block, weightsOf(body, block, settings, from), settings);
        return inBlocks(b, at, settings, { of: [at.q, at.k, at.v], read });
      },
    }) as ReturnType<FusedKernels<Value>['PeftAttentionGrad']>;
  },
};

type Inputs = AttentionInputs<Value>;
type GradInputs = Inputs & { readonly dy: Value };

/** P [batch, heads, queries, keys] */
function weightsOf(b: GraphBuilder, at: Inputs, settings: AttentionSettings, from: Value): Value {
  const { q, k } = at;
  const [heads, keyHeads] = [q.shape[1] as number, k.shape[1] as number];
  const products = product(b, perHead(b, q, keyHeads), k, { alpha: settings.scale, transB: 1 });
  const scores = perHead(b, products, heads);
  const bias = biasOf(b, at, settings, from);
  const masked = bias === undefined ? scores : b.node('Add', [scores, bias], scores.shape);
  return b.node('Softmax', [masked], masked.shape, { attributes: { axis: -1 } });
}

/** What is added to the scores; broadcasts to them. `from` is the place of the first query in the text. */
function biasOf(b: GraphBuilder, at: Inputs, { causal, window }: AttentionSettings, from: Value): Value | undefined {
  const { q, k, maskBias } = at;
  if (!causal) return maskBias;
  const shape = [q.shape[2] as number, k.shape[2] as number]; // [queries, keys]
  const lengths = b.node('Concat', [lengthOf(b, q), lengthOf(b, k)], [2], { attributes: { axis: 0 } });
  const all = b.node('Expand', [b.scalar(HIDDEN), lengths], shape);
  const part = (offset: number, upper: 0 | 1): Value => {
    const diagonal = b.node('Squeeze', [b.node('Add', [from, b.ints([offset])], [1])], []);
    return b.node('Trilu', [all, diagonal], shape, { attributes: { upper } });
  };
  const later = part(1, 1);
  const bias = window > 0 ? b.node('Add', [later, part(-window, 0)], shape) : later;
  return maskBias === undefined ? bias : b.node('Add', [bias, maskBias], [...maskBias.shape.slice(0, 2), ...shape]);
}

/** y = P v [batch, heads, queries, size] */
function mixed(b: GraphBuilder, weights: Value, v: Value): Value {
  return perHead(b, product(b, perHead(b, weights, v.shape[1] as number), v), weights.shape[1] as number);
}

/** dq, dk and dv */
function gradients(
  b: GraphBuilder,
  { dy, q, k, v }: GradInputs,
  weights: Value,
  { scale }: AttentionSettings,
): Value[] {
  const [heads, keyHeads] = [q.shape[1] as number, k.shape[1] as number];
  const [p, dMixed, queries] = [weights, dy, q].map((x) => perHead(b, x, keyHeads)) as [Value, Value, Value];
  const weighted = b.node('Mul', [product(b, dMixed, v, { transB: 1 }), p], p.shape);
  const sums = b.node('ReduceSum', [weighted, b.ints([-1])], [...p.shape.slice(0, -1), 1]);
  const dScores = b.node('Sub', [weighted, b.node('Mul', [sums, p], p.shape)], p.shape);
  return [
    perHead(b, product(b, dScores, k, { alpha: scale }), heads),
    product(b, dScores, queries, { alpha: scale, transA: 1 }),
    product(b, p, dMixed, { transA: 1 }),
  ];
}

/** Joins the queries of heads that share keys, as more rows of one product, or parts them again. */
function perHead(b: GraphBuilder, x: Value, heads: number): Value {
  const [batch, own, rows, columns] = x.shape as [number, number, number, number];
  if (own === heads) return x;
  // 0 copies a dimension, so that the shape does not depend on the sizes.
  return b.node('Reshape', [x, b.ints([0, heads, -1, 0])], [batch, heads, (own * rows) / heads, columns]);
}

interface ProductOptions {
  readonly alpha?: number;
  readonly transA?: 0 | 1;
  readonly transB?: 0 | 1;
}

/** alpha a b, each transposed on request */
function product(
  g: GraphBuilder,
  a: Value,
  b: Value,
  { alpha = 1, transA = 0, transB = 0 }: ProductOptions = {},
): Value {
  const shape = [...a.shape.slice(0, 2), a.shape[transA ? 3 : 2] as number, b.shape[transB ? 2 : 3] as number];
  const attributes = { alpha: { float: alpha }, transA, transB };
  return g.node('FusedMatMul', [a, b], shape, { domain: MICROSOFT, attributes });
}

/** Computes values in one of two ways, by the number of queries. */
function byLength<At extends Inputs>(
  g: GraphBuilder,
  inputs: At,
  { kept }: AttentionSettings,
  shapes: readonly (readonly number[])[],
  ways: Readonly<Record<'kept' | 'blocks', (b: GraphBuilder, at: At) => Value[]>>,
): Value[] {
  const isLong = g.node('Greater', [lengthOf(g, inputs.q), g.ints([kept])], [1], { dtype: 'bool' });
  const branch = (way: (b: GraphBuilder, at: At) => Value[]): { graph: Subgraph } => ({
    graph: subgraph([], inputs, (b, _, at) => way(b, at)),
  });
  const attributes = { then_branch: branch(ways.blocks), else_branch: branch(ways.kept) };
  const outputs = shapes.map((shape) => ({ dtype: 'float32', shape }) as const);
  return g.nodeOf('If', [isLong, ...Object.values<Value>(inputs)], outputs, { attributes });
}

/** What blocks of queries compute. */
interface Blocks<At> {
  /** What each result is of: the results for blocks of queries are joined, those for keys and values added up. */
  readonly of: readonly Value[];
  /** Computes the results of one block, whose first query is at the place `from` of the text. */
  readonly read: (body: GraphBuilder, block: At, from: Value) => Value[];
}

/** Computes values a block of queries at a time. */
function inBlocks<At extends Inputs & { readonly dy?: Value }>(
  b: GraphBuilder,
  at: At,
  { causal }: AttentionSettings,
  { of, read }: Blocks<At>,
): Value[] {
  const rounds = b.node('Div', [b.node('Add', [lengthOf(b, at.q), b.ints([BLOCK - 1])], [1]), b.ints([BLOCK])], [1]);
  const nothing = of.map((x) => cut(b, x, [b.ints([0]), b.ints([0])], 2));
  const goesOn = b.constant(Uint8Array.of(1), 'bool', []);
  const round: Value = { ...rounds, shape: [], onnxShape: [] };
  const body = subgraph([round, goesOn, ...nothing], at, (body, [index, condition, ...soFar], whole) => {
    const start = body.node('Mul', [index as Value, body.ints([BLOCK])], [1]);
    const next = body.node('Add', [start, body.ints([BLOCK])], [1]);
    const end = body.node('Min', [next, lengthOf(body, whole.q)], [1]);
    const ofQueries = (x: Value): Value => cut(body, x, [start, end], 2);
    const ofKeys = (x: Value, axis: number): Value => (causal ? cut(body, x, [body.ints([0]), end], axis) : x);
    const { q, k, v, maskBias, dy } = whole;
    const mask = maskBias && ofKeys(maskBias.shape[2] === 1 ? maskBias : ofQueries(maskBias), 3);
    const block = {
      q: ofQueries(q),
      k: ofKeys(k, 2),
      v: ofKeys(v, 2),
      ...(mask && { maskBias: mask }),
      ...(dy && { dy: ofQueries(dy) }),
    };
    const results = read(body, block as unknown as At, start).map((result, place) => {
      const sum = soFar[place] as Value;
      return of[place] === at.q
        ? body.node('Concat', [sum, result], result.shape, { attributes: { axis: 2 } })
        : added(body, sum, result);
    });
    return [condition as Value, ...results];
  });
  const outputs = of.map(({ shape }) => ({ dtype: 'float32', shape }) as const);
  const operands = [b.reshape(rounds, []), goesOn, ...nothing, ...Object.values<Value>(at)];
  return b.nodeOf('Loop', operands, outputs, { attributes: { body: { graph: body } } });
}

/** Adds a sum over fewer keys, whose other terms are 0. */
function added(b: GraphBuilder, sum: Value, more: Value): Value {
  const missing = b.node('Sub', [lengthOf(b, more), lengthOf(b, sum)], [1]);
  const pads = b.node('Concat', [b.ints([0, 0, 0, 0, 0, 0]), missing, b.ints([0])], [8], { attributes: { axis: 0 } });
  return b.node('Add', [b.node('Pad', [sum, pads], more.shape), more], more.shape);
}

/** The size of the third axis, int64 [1]. */
function lengthOf(b: GraphBuilder, x: Value): Value {
  return b.node('Shape', [x], [1], { dtype: 'int64', attributes: { start: 2, end: 3 } });
}

function cut(b: GraphBuilder, x: Value, [from, to]: readonly [Value, Value], axis: number): Value {
  return b.node('Slice', [x, from, to, b.ints([axis])], x.shape);
}

/** Builds a subgraph from what the operator passes to it and what it reads of the graph around it. */
function subgraph<At extends Inputs>(
  passed: readonly Value[],
  captured: At,
  build: (b: GraphBuilder, passed: readonly Value[], captured: At) => readonly Value[],
): Subgraph {
  const b = new GraphBuilder();
  const own = passed.map(({ dtype, shape }, place) => b.input(`passed ${place}`, dtype, shape));
  const around = Object.entries<Value>(captured).map(
    ([key, { dtype, shape }]) => [key, b.input(key, dtype, shape)] as const,
  );
  const results = build(b, own, Object.fromEntries(around) as unknown as At).map((value) => {
    const isPassed = b.inputs.some(({ name }) => name === value.name);
    return isPassed ? b.node('Identity', [value], value.shape) : b.whole(value);
  });
  const { constants, inputs } = b;
  const nodes = b.nodes.map(({ traced: _, ...node }) => node); // the same at every size
  return { nodes, constants, inputs: inputs.map(port), outputs: results.map(port), captured: around.length };
}

function port({ name, dtype, shape }: Value | GraphPort): SubgraphPort {
  return { name, dtype, rank: shape.length };
}
