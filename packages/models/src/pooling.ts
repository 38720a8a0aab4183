/**
 * Text embeddings from token embeddings x_1 .. x_n, as in sentence-transformers (Reimers and Gurevych, 2019):
 *
 *   mean                   sum x_i / n
 *   cls                    x_1
 *   max                    the largest of each feature
 *   mean_sqrt_len_tokens   sum x_i / sqrt(n)
 *   weightedmean           sum i x_i / sum i
 *   lasttoken              x_n
 *
 * or several of them concatenated; then its modules `Dense`, f(x W + b), `LayerNorm` and `Normalize`,
 * v / max(|v|, 1e-12).
 */
import { ConfigError, type Tensors } from '@peftjs/core/method';
import type { Scope } from '@peftjs/core/model';
import { gelu, l2Normalize, layerNorm, linear, silu } from '@peftjs/core/nn';
import * as tf from '@tensorflow/tfjs-core';
import type { Tensor } from '@tensorflow/tfjs-core';
import * as v from 'valibot';
import { batchInput, type Features } from './architecture.js';
import { firstToken, lastToken, onlyToken, tokenMean } from './reading.js';

/** How token embeddings are combined into a text embedding. */
export type PoolingMode = 'mean' | 'cls' | 'max' | 'mean_sqrt_len_tokens' | 'weightedmean' | 'lasttoken';

/** The modes in the order in which sentence-transformers concatenates them if its files have a switch for each. */
export const POOLING_MODES: readonly PoolingMode[] = [
  'cls',
  'max',
  'mean',
  'mean_sqrt_len_tokens',
  'weightedmean',
  'lasttoken',
];

/** How token embeddings become one text embedding. */
export interface Pooling {
  /** One mode, or several whose embeddings are concatenated. */
  readonly pooling: PoolingMode | readonly PoolingMode[];
  /** Whether embeddings are scaled to length 1. */
  readonly normalize: boolean;
  /** The modules between pooling and `normalize`, in order. Default: none. */
  readonly modules?: readonly EmbeddingModule[];
}

/**
 * A module of sentence-transformers after the pooling. Its weights are the model's `<path>.linear.weight` [in, out] and
 * `.bias`, `<path>.residual.weight` [in, out], `<path>.norm.weight` and `.bias` [features]. They are frozen, as in
 * PEFT.
 */
export type EmbeddingModule =
  | {
      readonly kind: 'Dense';
      /** The module's folder, and the prefix of its weights. */
      readonly path: string;
      /** The width of the input. */
      readonly inFeatures: number;
      /** The width of the output. */
      readonly outFeatures: number;
      /** Whether it has a bias. */
      readonly bias: boolean;
      /** The name of a class in torch.nn, e.g. `Tanh`. */
      readonly activation: string;
      /** Whether the input is added to the output. */
      readonly residual: boolean;
    }
  | { readonly kind: 'LayerNorm'; readonly path: string; readonly features: number }
  | { readonly kind: 'Normalize' };

/** The activations of a Dense module by class name in torch.nn, with PyTorch's default settings. */
export const ACTIVATIONS: Readonly<Record<string, (x: Tensor) => Tensor>> = {
  ELU: (x) => tf.elu(x),
  GELU: gelu,
  Identity: (x) => x,
  LeakyReLU: (x) => tf.leakyRelu(x, 0.01),
  ReLU: (x) => tf.relu(x),
  ReLU6: (x) => tf.relu6(x),
  SELU: (x) => tf.selu(x),
  SiLU: silu,
  Sigmoid: (x) => tf.sigmoid(x),
  Softplus: (x) => tf.softplus(x),
  Tanh: (x) => tf.tanh(x),
};

/** Returns the modes of a pooling as a list. */
export function modesOf(pooling: Pooling['pooling']): readonly PoolingMode[] {
  return typeof pooling === 'string' ? [pooling] : pooling;
}

/** Whether these are pooling modes, at least one. */
export function areModes(given: readonly unknown[]): given is readonly [PoolingMode, ...PoolingMode[]] {
  return given.length > 0 && given.every((mode) => (POOLING_MODES as readonly unknown[]).includes(mode));
}

/** A schema for the option `pooling`. */
export const aPooling = v.custom<Pooling['pooling']>(
  (given) => areModes([given].flat()),
  `one of ${POOLING_MODES.join(', ')}, or a list of them`,
);

/**
 * Merges options over the settings of a model's folder. Default: the mean, not normalised.
 * @throws ConfigError when the model's next modules need another number of modes.
 */
export function poolingOf(asked: Partial<Pick<Pooling, 'pooling' | 'normalize'>>, own: Partial<Pooling> = {}): Pooling {
  const { pooling = own.pooling ?? 'mean', normalize = own.normalize ?? false } = asked;
  const { modules = [] } = own;
  const [modes, needed] = [modesOf(pooling), modesOf(own.pooling ?? 'mean').length];
  if (modules.length > 0 && modes.length !== needed) {
    throw new ConfigError(
      `option 'pooling' has ${modes.length} modes; the model's next modules need ${needed}`,
      'pooling',
    );
  }
  const [first] = modes;
  const only = modes.length === 1 && first ? first : modes;
  return { pooling: only, normalize, ...(modules.length > 0 && { modules }) };
}

/** Pools token embeddings [batch, tokens, width] with `attentionMask` to [batch, features]. */
export function pooled(tokens: Features, { pooling, normalize, modules = [] }: Pooling): Features {
  return (scope: Scope, inputs: Tensors) => {
    const x = tokens(scope, inputs);
    const mask = batchInput(inputs, 'attentionMask');
    const [first, ...others] = modesOf(pooling).map((mode) => POOLED[mode](x, mask)) as [Tensor, ...Tensor[]];
    const text = others.length === 0 ? first : tf.concat([first, ...others], 1); // [batch, modes * width]
    const out = modules.reduce((now, module) => applied(module, scope, now), text);
    return normalize ? l2Normalize(out) : out;
  };
}

/** x [batch, tokens, width], mask [batch, tokens] of 1 and 0 -> [batch, width] */
const POOLED: Readonly<Record<PoolingMode, (x: Tensor, mask: Tensor) => Tensor>> = {
  cls: (x) => onlyToken(firstToken(x)),
  lasttoken: (x, mask) => onlyToken(lastToken(mask).read(x)),
  max: (x, mask) => tf.max(tf.add(x, tf.mul(tf.expandDims(tf.sub(mask, 1), 2), ABSENT)), 1),
  mean: tokenMean,
  mean_sqrt_len_tokens: (x, mask) => tf.mul(tokenMean(x, mask), tf.sqrt(tf.sum(mask, 1, true))),
  weightedmean(x, mask) {
    const positions = tf.range(1, (mask.shape[1] as number) + 1, 1, 'float32'); // [tokens]
    const weights = tf.mul(mask, positions);
    const shares = tf.div(weights, tf.maximum(tf.sum(weights, 1, true), 1));
    return onlyToken(tf.matMul(tf.expandDims(shares, 1), x)); // [B, 1, S] x [B, S, H]
  },
};

/** Subtracted from the features of padding, so that they are below any other. */
const ABSENT = 1e30;

/** text [batch, in] -> [batch, out] */
function applied(module: EmbeddingModule, scope: Scope, text: Tensor): Tensor {
  if (module.kind === 'Normalize') return l2Normalize(text);
  const weight = (name: string): Tensor => scope.weight(`${module.path}.${name}`);
  if (module.kind === 'LayerNorm') return layerNorm(text, weight('norm.weight'), weight('norm.bias'), TORCH_EPSILON);
  const { activation, bias, residual, inFeatures, outFeatures } = module;
  const activate = ACTIVATIONS[activation] as (x: Tensor) => Tensor;
  const out = activate(linear(text, weight('linear.weight'), bias ? weight('linear.bias') : undefined));
  if (!residual) return out;
  return tf.add(
    out,
    inFeatures === outFeatures ? text : tf.matMul(text as tf.Tensor2D, weight('residual.weight') as tf.Tensor2D),
  );
}

/** PyTorch's default epsilon of a LayerNorm. */
const TORCH_EPSILON = 1e-5;
