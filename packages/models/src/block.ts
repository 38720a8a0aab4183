/**
 * A transformer layer as data: the names of its modules, and what differs between networks. Every network is a list of
 * these.
 *
 *   a  = part(x), x' = part(a)               of attention, then of the feed-forward module
 *   part(x)      = S(x + r A(F(B(x))))       S, A, B: norms, each only if it has a name; r: `residualScale`
 *   attention(m) = softmax(s q' k'^T + bias) v W_o in each head, with q' = R(N_q(m W_q)), k' = R(N_k(m W_k)), v = m W_v
 *   forward(m)   = act(m W_i) W_f, or (act(m W_g) * m W_u) W_f if it has a gate
 *
 * Dropout may follow the softmax, each A, and the activation. R rotates by position.
 */
import type { Site } from '@peftjs/core/method';
import { layerNormSite, linearSite, type Scope, type SitePosition } from '@peftjs/core/model';
import { activations, attention, type ActivationName, type AttentionOptions } from '@peftjs/core/nn';
import * as tf from '@tensorflow/tfjs-core';
import type { Tensor } from '@tensorflow/tfjs-core';
import type { Dropout } from './architecture.js';
import type { KeysAndValues } from './context.js';
import { everyToken, type Reader } from './reading.js';

/** A transformer layer. Names and places are those below its path. */
export interface Block {
  /** The module path of the layer. */
  readonly path: string;
  /** The index of the layer. */
  readonly layer: number;
  /** The width of the hidden states, H. */
  readonly width: number;
  /** The kind of all its norms. */
  readonly norm: NormKind;
  /** Its attention. */
  readonly attention: AttentionPart;
  /** Its feed-forward module. */
  readonly feedForward: FeedForwardPart;
  /** r, the factor of each change. Default 1. */
  readonly residualScale?: number | undefined;
  /** Whether checkpoints store its linear weights as [in, out]. Default false. */
  readonly fanInFanOut?: boolean;
}

/** A kind of norms: scope.layerNorm or scope.rmsNorm, and their arguments. */
export interface NormKind {
  /** A layer norm has a bias unless `hasBias` is false; an RMS norm has none. */
  readonly kind: 'layer' | 'rms';
  /** Epsilon. */
  readonly epsilon: number;
  /** Whether a layer norm has a bias. Default true. */
  readonly hasBias?: boolean;
  /** Added to the gain of an RMS norm. Default 0. */
  readonly offset?: number | undefined;
}

/** What both parts of a layer have: their norms, each only if it is named, and the dropout of their output. */
interface Part {
  /** B, the norm of the input. */
  readonly before?: string | undefined;
  /** A, the norm of the output, before it is added. */
  readonly after?: string | undefined;
  /** S, the norm of the sum. */
  readonly sum?: string | undefined;
  /** The dropout of the output. */
  readonly dropout?: Dropout | undefined;
}

/** The attention of a layer. */
export interface AttentionPart extends Part, Pick<AttentionOptions, 'heads' | 'keyHeads' | 'scale' | 'softcap'> {
  /** W_q, W_k and W_v, or one module that computes all three, one after the other. */
  readonly qkv: readonly [query: string, key: string, value: string] | string;
  /** W_o. */
  readonly output: string;
  /** The width of a head. Default H / heads. */
  readonly headDim?: number;
  /** N_q and N_k, over each head or over all heads. Default: none. */
  readonly queryKeyNorm?: QueryKeyNorm | undefined;
  /** Whether queries, keys and values have a bias. Default true. */
  readonly hasBias?: boolean | undefined;
  /** Whether the output has a bias. Default true. */
  readonly outputBias?: boolean | undefined;
  /** The dropout of the weights, after the softmax. */
  readonly weightsDropout?: Dropout | undefined;
}

/** The norms of queries and keys. */
interface QueryKeyNorm {
  readonly query: string;
  readonly key: string;
  /** What they normalise. */
  readonly over: 'head' | 'all';
}

/** The feed-forward module of a layer. */
export interface FeedForwardPart extends Part {
  /** Its inner width. */
  readonly width: number;
  /** W_i, or W_g and W_u. */
  readonly inner: readonly [gate: string, up: string] | string;
  /** Whether the only inner module computes the gate and, after it, the other factor. Default false. */
  readonly isFused?: boolean | undefined;
  /** W_f. */
  readonly outer: string;
  /** The activation. */
  readonly act: ActivationName;
  /** Whether the modules have a bias. Default true. */
  readonly hasBias?: boolean | undefined;
  /** The dropout before W_f. */
  readonly innerDropout?: Dropout | undefined;
}

/** What differs from pass to pass: by default, each token attends to all tokens, without positions. */
export interface BlockPass {
  /** Selects the tokens that the layer is computed for; they attend to all tokens. Default: all of them. */
  readonly read?: Reader | undefined;
  /** What hides keys, and the longest text. */
  readonly options?: Pick<AttentionOptions, 'maskBias' | 'bias' | 'causal' | 'window' | 'maxTokens'>;
  /** R: rotates queries [B, Q, heads * size], or keys [B, S, keyHeads * size]. */
  readonly rotate?: ((states: Tensor, of: 'queries' | 'keys') => Tensor) | undefined;
  /** Returns the keys and values that the tokens attend to, given their own. */
  readonly attended?: (own: KeysAndValues) => KeysAndValues;
  /** Returns the bias of the scores if queries and keys decide on it, [B, heads, Q, S]. */
  readonly bias?: (queries: Tensor, keys: Tensor) => Tensor;
}

/** Returns the modules of a layer, in forward order. */
export function blockSites(block: Block): Site[] {
  const { path, layer, width, attention, feedForward, fanInFanOut = false } = block;
  const [queries, keys] = widthsOf(block);
  const norm = (name: string | undefined, size = width): Site[] =>
    name === undefined ? [] : [normSite(block.norm, `${path}.${name}`, size, { layer })];
  const linear = (role: Site['role'], name: string, [from, to]: readonly [number, number], hasBias = true): Site => ({
    ...linearSite(`${path}.${name}`, from, to, { role, layer }),
    hasBias,
    ...(fanInFanOut && { fanInFanOut }),
  });
  const { qkv, queryKeyNorm: own, hasBias } = attention;
  const size = own?.over === 'head' ? headDimOf(block) : undefined;
  const innerWidth = feedForward.isFused ? 2 * feedForward.width : feedForward.width;
  return [
    ...norm(attention.before),
    ...(typeof qkv === 'string'
      ? [linear('attention.qkv', qkv, [width, queries + 2 * keys], hasBias)]
      : [
          linear('attention.query', qkv[0], [width, queries], hasBias),
          linear('attention.key', qkv[1], [width, keys], hasBias),
          linear('attention.value', qkv[2], [width, keys], hasBias),
        ]),
    ...norm(own?.query, size ?? queries),
    ...norm(own?.key, size ?? keys),
    linear('attention.output', attention.output, [queries, width], attention.outputBias),
    ...norm(attention.after),
    ...norm(attention.sum),
    ...norm(feedForward.before),
    ...[feedForward.inner].flat().map((name) => linear('ffn.in', name, [width, innerWidth], feedForward.hasBias)),
    linear('ffn.out', feedForward.outer, [feedForward.width, width], feedForward.hasBias),
    ...norm(feedForward.after),
    ...norm(feedForward.sum),
  ];
}

/** Returns the module of a norm. */
export function normSite({ kind, hasBias = true }: NormKind, path: string, width: number, at: SitePosition = {}): Site {
  return { ...layerNormSite(path, width, at), hasBias: hasBias && kind === 'layer' };
}

/** Returns the rates of dropout in layers, by place. */
export function blockDropouts(blocks: readonly Block[]): Record<string, number> {
  const places = blocks.flatMap(({ path, attention, feedForward }) =>
    [attention.weightsDropout, attention.dropout, feedForward.innerDropout, feedForward.dropout].flatMap((dropout) =>
      dropout ? [[`${path}.${dropout[0]}`, dropout[1]] as const] : [],
    ),
  );
  return Object.fromEntries(places);
}

/**
 * Runs layers one after the other: x [B, S, H] -> [B, Q, H].
 * @param passOf Called with each layer before it is run, whether it is the last, and its input.
 */
export function runBlocks<B extends Block>(
  blocks: readonly B[],
  scope: Scope,
  x: Tensor,
  passOf: (block: B, isLast: boolean, states: Tensor) => BlockPass,
): Tensor {
  const last = blocks.length - 1;
  return blocks.reduce((states, block, at) => runBlock(block, scope, states, passOf(block, at === last, states)), x);
}

/** x [B, S, H] -> [B, Q, H] */
function runBlock(block: Block, scope: Scope, x: Tensor, pass: BlockPass): Tensor {
  const { attention, feedForward, residualScale } = block;
  const modules = modulesOf(block, scope);
  const { linear, norm, dropped } = modules;
  const added = ({ dropout, sum }: Part, states: Tensor, output: Tensor): Tensor =>
    norm(sum, tf.add(states, scaled(dropped(dropout, output), residualScale)));
  const context = attended(block, modules, norm(attention.before, x), pass); // [B, Q, heads * size]
  const mixed = norm(attention.after, linear(attention.output, context)); // [B, Q, H]
  const a = added(attention, pass.read?.(x) ?? x, mixed);
  const wide = inner(block, modules, norm(feedForward.before, a)); // [B, Q, inner]
  const outer = linear(feedForward.outer, dropped(feedForward.innerDropout, wide)); // [B, Q, H]
  return added(feedForward, a, norm(feedForward.after, outer));
}

/** Normalises x over its last axis. */
export function normed({ kind, epsilon, offset }: NormKind, scope: Scope, path: string, x: Tensor): Tensor {
  return kind === 'rms' ? scope.rmsNorm(path, x, epsilon, offset) : scope.layerNorm(path, x, epsilon);
}

/** Returns x times a factor, if there is one. */
export function scaled(x: Tensor, factor: number | undefined): Tensor {
  return factor === undefined ? x : tf.mul(x, factor);
}

/** The modules of a layer, by their names below its path. */
type Modules = ReturnType<typeof modulesOf>;

function modulesOf({ path, norm }: Block, scope: Scope) {
  return {
    linear: (name: string, x: Tensor): Tensor => scope.linear(`${path}.${name}`, x),
    norm: (name: string | undefined, x: Tensor): Tensor =>
      name === undefined ? x : normed(norm, scope, `${path}.${name}`, x),
    dropped: (dropout: Dropout | undefined, x: Tensor): Tensor =>
      dropout ? scope.dropout(`${path}.${dropout[0]}`, x) : x,
  };
}

/** Computes the attention of normalised x [B, S, H] before W_o, [B, Q, heads * size]. */
function attended(block: Block, modules: Modules, x: Tensor, pass: BlockPass): Tensor {
  const { rotate = (states: Tensor) => states, attended = (own: KeysAndValues) => own } = pass;
  const { weightsDropout, ...own } = block.attention;
  const { q, k, v } = projected(block, modules, x, pass);
  const { keys, values } = attended({ keys: rotate(k, 'keys'), values: v }); // [B, keys, keyHeads * size]
  return attention(rotate(q, 'queries'), keys, values, {
    ...own,
    ...pass.options,
    ...(pass.bias && { bias: pass.bias(q, k) }),
    dropout: (weights) => modules.dropped(weightsDropout, weights),
  });
}

/** Computes queries [B, Q, heads * size], keys and values [B, S, keyHeads * size], before rotation. */
function projected(block: Block, modules: Modules, x: Tensor, { read = everyToken }: BlockPass) {
  const { qkv, queryKeyNorm: own } = block.attention;
  const { linear } = modules;
  const norm = (name: 'query' | 'key', states: Tensor): Tensor => normedHeads(block, modules, states, own?.[name]);
  if (typeof qkv === 'string') {
    const [queries, keys] = widthsOf(block);
    const [q, k, v] = tf.split(linear(qkv, x), [queries, keys, keys], 2) as [Tensor, Tensor, Tensor];
    return { q: norm('query', read(q)), k: norm('key', k), v };
  }
  const [query, key, value] = qkv;
  return { q: norm('query', linear(query, read(x))), k: norm('key', linear(key, x)), v: linear(value, x) };
}

/** Normalises [B, S, heads * size], over each head or over all heads. */
function normedHeads(block: Block, { norm }: Modules, states: Tensor, name: string | undefined): Tensor {
  if (name === undefined || block.attention.queryKeyNorm?.over === 'all') return norm(name, states);
  const [batch, tokens, features] = states.shape as [number, number, number];
  const size = headDimOf(block);
  return tf.reshape(norm(name, tf.reshape(states, [batch, tokens, features / size, size])), states.shape);
}

/** m [B, Q, H] -> [B, Q, inner] */
function inner(block: Block, { linear }: Modules, m: Tensor): Tensor {
  const { inner: names, isFused, act } = block.feedForward;
  if (typeof names !== 'string') return tf.mul(activations[act](linear(names[0], m)), linear(names[1], m));
  if (!isFused) return activations[act](linear(names, m));
  const [gate, up] = tf.split(linear(names, m), 2, 2) as [Tensor, Tensor];
  return tf.mul(activations[act](gate), up);
}

/** Returns the total widths of the query heads and of the key heads. */
function widthsOf(block: Block): readonly [queries: number, keys: number] {
  const { heads, keyHeads = heads } = block.attention;
  return [heads * headDimOf(block), keyHeads * headDimOf(block)];
}

/** Returns the width of a head. */
export function headDimOf({ width, attention: { heads, headDim = width / heads } }: Block): number {
  return headDim;
}
