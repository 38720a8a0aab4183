/**
 * Universal Sentence Encoder Lite (Cer et al., 2018): word pieces, two pre-norm transformer layers, the mean over the
 * tokens.
 *
 *   x0 = 2 e + t                    e: word pieces, t: sines and cosines of the position
 *   h  = x W_r + Attention(LN(x))   W_r: 256 -> 512 in the first layer, the identity in the second
 *   x' = h + FFN(LN(h))             FFN: relu, 512 -> 1536 -> 512
 *   features = mean over tokens of x2
 *   encode   = v / |v|,  v = tanh(features W_p + b_p)
 *
 * The layers are not those of block.ts: they run on [B * S, width], as in the packaged graph, and the first one changes
 * the width.
 */
import type { Site, Tensors } from '@peftjs/core/method';
import { embeddingSite, layerNormSite, linearSite, type Scope, type Task } from '@peftjs/core/model';
import { attention, maskBias } from '@peftjs/core/nn';
import * as tf from '@tensorflow/tfjs-core';
import type { Tensor } from '@tensorflow/tfjs-core';
import { batchInput, headFor, linearHead, type Architecture, type Head } from '../architecture.js';
import { checkTokens, tokenMean } from '../reading.js';

const EMBEDDING = 256;
const HIDDEN = 512;
const INNER = 1536;
const HEADS = 4;
const LAYERS = 2;
const LAYER_NORM_EPSILON = 1e-6;

/** The longest sequence that the packaged graph reads, in tokens; it drops the rest. */
const MAX_TOKENS = 128;

/** Builds the network for `vocabularySize` word pieces. @throws UnsupportedError when it has no head for the task. */
export function useLite(vocabularySize: number, task: Task): Architecture {
  const pooler = linearSite('pooler', HIDDEN, HIDDEN);
  const isEmbedding = task === 'feature-extraction';
  const heads: Partial<Record<Task, Head>> = {
    'sequence-classification': linearHead({ path: 'classifier' }, HIDDEN, features),
    'feature-extraction': { trained: [], sites: () => [], forward: encode },
  };
  return {
    name: 'use-lite',
    maxTokens: MAX_TOKENS,
    sites: [
      embeddingSite('embeddings', vocabularySize, EMBEDDING),
      ...Array.from({ length: LAYERS }, (_, layer) => layerSites(layer)).flat(),
      ...(isEmbedding ? [pooler] : []),
    ],
    encodeOnly: isEmbedding ? [] : [pooler],
    defaultTargetModules: ['attention.qkv', 'attention.output', 'ffn.in', 'ffn.out'],
    lookups: [{ site: 'embeddings', ids: 'inputIds' }],
    encode,
    head: headFor('use-lite', heads, task),
  };
}

/** Returns the module path of a transformer layer. */
export function layerPath(layer: number): string {
  return `encoder.layer.${layer}`;
}

function layerSites(layer: number): Site[] {
  const path = layerPath(layer);
  const width = layer === 0 ? EMBEDDING : HIDDEN;
  const residual = linearSite(`${path}.residual`, width, HIDDEN, { layer });
  return [
    ...(width === HIDDEN ? [] : [residual]),
    layerNormSite(`${path}.attention.layerNorm`, width, { layer }),
    linearSite(`${path}.attention.qkv`, width, 3 * width, { role: 'attention.qkv', layer }),
    linearSite(`${path}.attention.output`, width, HIDDEN, { role: 'attention.output', layer }),
    layerNormSite(`${path}.ffn.layerNorm`, HIDDEN, { layer }),
    linearSite(`${path}.ffn.in`, HIDDEN, INNER, { role: 'ffn.in', layer }),
    linearSite(`${path}.ffn.out`, INNER, HIDDEN, { role: 'ffn.out', layer }),
  ];
}

/**
 * inputIds [B, S] int32, attentionMask [B, S] float32 -> the mean over a row's tokens [B, 512]; zeros for an empty row.
 */
function features(scope: Scope, inputs: Tensors): Tensor {
  const mask = batchInput(inputs, 'attentionMask');
  const [batch, tokens] = mask.shape as [number, number];
  const bias = maskBias(mask); // [B, S] -> [B, 1, 1, S]
  let x = embed(scope, inputs); // [B * S, 256]
  for (let layer = 0; layer < LAYERS; layer++) x = transformerLayer(scope, layer, x, bias); // [B * S, 512]
  return tokenMean(tf.reshape(x, [batch, tokens, HIDDEN]), mask);
}

/** Computes the packaged graph's output: [B, 512], normalised to length 1. */
function encode(scope: Scope, inputs: Tensors): Tensor {
  const pooled = tf.tanh(scope.linear('pooler', features(scope, inputs))); // [B, 512]
  const squares = tf.sum(tf.square(pooled), 1, true); // [B, 1]
  return tf.mul(pooled, tf.rsqrt(tf.maximum(squares, 1e-12)));
}

/** Sums word pieces and positions: [B, S] -> [B * S, 256]. The packaged graph adds the pieces twice. */
function embed(scope: Scope, inputs: Tensors): Tensor {
  const ids = batchInput(inputs, 'inputIds');
  const [batch, tokens] = ids.shape as [number, number];
  checkTokens('use-lite', ids, MAX_TOKENS);
  const pieces = scope.embedding('embeddings', ids); // [B, S, 256]
  const signal = tf.slice(tf.tensor2d(timingSignal(MAX_TOKENS), [MAX_TOKENS, EMBEDDING]), [0, 0], [tokens, EMBEDDING]);
  return tf.reshape(tf.add(tf.mul(pieces, 2), signal), [batch * tokens, EMBEDDING]);
}

/** x [B * S, 256 or 512] -> [B * S, 512]. Values at padded positions never affect others. */
function transformerLayer(scope: Scope, layer: number, x: Tensor, bias: Tensor): Tensor {
  const path = layerPath(layer);
  const residual = x.shape[1] === HIDDEN ? x : scope.linear(`${path}.residual`, x); // [B * S, 512]
  const attended = tf.add(selfAttention(scope, `${path}.attention`, x, bias), residual);
  // [B * S, 1536]
  const inner = tf.relu(scope.linear(`${path}.ffn.in`, norm(scope, `${path}.ffn.layerNorm`, attended)));
  return tf.add(scope.linear(`${path}.ffn.out`, inner), attended);
}

/** x [B * S, width], bias [B, 1, 1, S] -> [B * S, 512]. */
function selfAttention(scope: Scope, path: string, x: Tensor, bias: Tensor): Tensor {
  const [rows, width] = x.shape as [number, number];
  const [batch, , , tokens] = bias.shape as [number, number, number, number];
  const qkv = scope.linear(`${path}.qkv`, norm(scope, `${path}.layerNorm`, x)); // [B * S, 3 width]
  const [query, key, value] = tf.split(tf.reshape(qkv, [batch, tokens, 3 * width]), 3, 2) as [Tensor, Tensor, Tensor];
  const context = attention(query, key, value, { heads: HEADS, maskBias: bias }); // [B, S, width]
  return scope.linear(`${path}.output`, tf.reshape(context, [rows, width])); // [B * S, 512]
}

function norm(scope: Scope, path: string, x: Tensor): Tensor {
  return scope.layerNorm(path, x, LAYER_NORM_EPSILON);
}

/**
 * Returns sines, then cosines, of position * 10000^(-i / 127), i = 0 .. 127, in float32 as in the graph:
 * [tokens * 256].
 */
function timingSignal(tokens: number): Float32Array {
  const waves = EMBEDDING / 2;
  const signal = new Float32Array(tokens * EMBEDDING);
  for (let wave = 0; wave < waves; wave++) {
    const frequency = Math.fround(10000 ** (-wave / (waves - 1)));
    for (let position = 0; position < tokens; position++) {
      const angle = Math.fround(position * frequency);
      signal[position * EMBEDDING + wave] = Math.sin(angle);
      signal[position * EMBEDDING + waves + wave] = Math.cos(angle);
    }
  }
  return signal;
}
