/**
 * GPT-2 (Radford et al., 2019): words and positions, then pre-norm transformer layers of which no token looks ahead, and the heads
 * of transformers. Module paths are those of GPT2ForSequenceClassification, GPT2ForTokenClassification and GPT2LMHeadModel.
 *
 *   x0 = w + p
 *   a  = x + Attention(LN(x)) W_o     softmax(q k^T / sqrt(H / heads)) v in each head; q, k, v = LN(x) W_qkv
 *   x' = a + gelu(LN(a) W_i) W_f      gelu by its tanh approximation
 *   h  = LN(x_L)
 *   of a text       h[last token] W_s
 *   of tokens       h W_c
 *   the next token  h E^T             E: the table of words
 *   encode          h[last token]
 *
 * Every W has a bias but W_s.
 */
import * as tf from '@tensorflow/tfjs';
import type { Tensor } from '@tensorflow/tfjs';
import { embeddingSite, layerNormSite, linearSite } from '@peftjs/core';
import type { Place, Scope, Site, Task, Tensors } from '@peftjs/core';
import { attention, causalBias, geluTanh, maskBias } from '@peftjs/core/nn';
import { batchInput, type Architecture, type Network } from '../architecture.js';
import { decoder } from '../decoder.js';
import type { Features } from '../head.js';
import { checkTokens, lastToken, onlyToken, positionIds, type Reader } from '../reading.js';

/** The settings of config.json that the network depends on, under their names there. */
export interface Gpt2Config {
  readonly vocabSize: number;
  readonly nPositions: number;
  readonly nEmbd: number;
  readonly nLayer: number;
  /** Divides `nEmbd`. */
  readonly nHead: number;
  readonly nInner: number;
  readonly layerNormEpsilon: number;
  readonly tieWordEmbeddings: boolean;
}

const WORDS = 'transformer.wte';
const POSITIONS = 'transformer.wpe';
const FINAL_NORM = 'transformer.ln_f';

/** The network of a configuration for a task. */
export function gpt2(config: Gpt2Config, task: Task): Architecture {
  const last: Features = (scope, inputs) => onlyToken(lastTokenHidden(config, scope, inputs));
  const every: Features = (scope, inputs) => everyHidden(config, scope, inputs);
  const heads = { last, every, ofTokens: 'classifier', table: WORDS, tied: config.tieWordEmbeddings };
  return decoder(network(config, last), { ...heads, width: config.nEmbd, words: config.vocabSize }, task);
}

function network(config: Gpt2Config, encode: Features): Network {
  const { vocabSize, nPositions, nEmbd, nLayer, nHead, layerNormEpsilon } = config;
  return {
    name: 'gpt2',
    maxTokens: nPositions,
    settings: { nHead, layerNormEpsilon },
    sites: [
      embeddingSite(WORDS, vocabSize, nEmbd),
      embeddingSite(POSITIONS, nPositions, nEmbd),
      ...Array.from({ length: nLayer }, (_, layer) => layerSites(config, layer)).flat(),
      layerNormSite(FINAL_NORM, nEmbd),
    ],
    encodeOnly: [],
    defaultTargetModules: ['c_attn'],
    lookups: [{ site: WORDS, ids: 'inputIds' }],
    encode,
  };
}

function layerSites({ nEmbd, nInner }: Gpt2Config, layer: number): Site[] {
  const path = layerPath(layer);
  return [
    layerNormSite(`${path}.ln_1`, nEmbd, { layer }),
    conv1d(`${path}.attn.c_attn`, nEmbd, 3 * nEmbd, { role: 'attention.qkv', layer }),
    conv1d(`${path}.attn.c_proj`, nEmbd, nEmbd, { role: 'attention.output', layer }),
    layerNormSite(`${path}.ln_2`, nEmbd, { layer }),
    conv1d(`${path}.mlp.c_fc`, nEmbd, nInner, { role: 'ffn.in', layer }),
    conv1d(`${path}.mlp.c_proj`, nInner, nEmbd, { role: 'ffn.out', layer }),
  ];
}

function conv1d(path: string, inFeatures: number, outFeatures: number, place: Place): Site {
  return { ...linearSite(path, inFeatures, outFeatures, place), fanInFanOut: true };
}

function layerPath(layer: number): string {
  return `transformer.h.${layer}`;
}

/** inputIds [B, S] int32, attentionMask [B, S] float32 -> [B, S, H] */
function everyHidden(config: Gpt2Config, scope: Scope, inputs: Tensors): Tensor {
  const { x, bias } = belowLast(config, scope, inputs);
  return finished(config, scope, transformerLayer(config, scope, config.nLayer - 1, { x, bias }));
}

/** The last layer but for its keys and values is computed for the last token alone: [B, S] -> [B, 1, H]. */
function lastTokenHidden(config: Gpt2Config, scope: Scope, inputs: Tensors): Tensor {
  const { x, mask } = belowLast(config, scope, inputs);
  const { read } = lastToken(batchInput(inputs, 'attentionMask'));
  return finished(config, scope, transformerLayer(config, scope, config.nLayer - 1, { x, bias: mask, read }));
}

/** What the last layer is given: x [B, S, H], bias [B, 1, S, S] of all tokens, mask [B, 1, 1, S] of the last. */
function belowLast(config: Gpt2Config, scope: Scope, inputs: Tensors): { x: Tensor; bias: Tensor; mask: Tensor } {
  const ids = batchInput(inputs, 'inputIds');
  checkTokens('gpt2', ids, config.nPositions);
  const tokens = ids.shape[1] as number;
  const mask = maskBias(batchInput(inputs, 'attentionMask')); // [B, S] -> [B, 1, 1, S]
  const bias = tf.add(causalBias(tokens), mask); // [1, 1, S, S] + [B, 1, 1, S]
  let x = tf.add(scope.embedding(WORDS, ids), scope.embedding(POSITIONS, positionIds(tokens))); // [B, S, H] + [1, S, H]
  for (let layer = 0; layer < config.nLayer - 1; layer++) x = transformerLayer(config, scope, layer, { x, bias });
  return { x, bias, mask };
}

function finished({ layerNormEpsilon }: Gpt2Config, scope: Scope, x: Tensor): Tensor {
  return scope.layerNorm(FINAL_NORM, x, layerNormEpsilon);
}

/** What a layer computes with: all tokens [B, S, H], what is added to the scores, and which tokens it is computed for. */
interface LayerInputs {
  readonly x: Tensor;
  readonly bias: Tensor;
  /** Default: all of them. */
  readonly read?: Reader;
}

/** x [B, S, H] -> [B, Q, H] */
function transformerLayer(
  { nEmbd, nHead, layerNormEpsilon }: Gpt2Config,
  scope: Scope,
  layer: number,
  { x, bias, read = (all) => all }: LayerInputs,
): Tensor {
  const path = layerPath(layer);
  const qkv = scope.linear(`${path}.attn.c_attn`, scope.layerNorm(`${path}.ln_1`, x, layerNormEpsilon)); // [B, S, 3 H]
  const [q, k, v] = tf.split(qkv, [nEmbd, nEmbd, nEmbd], 2) as [Tensor, Tensor, Tensor];
  const context = attention(read(q), k, v, { heads: nHead, maskBias: bias }); // [B, Q, H]
  const attended = tf.add(read(x), scope.linear(`${path}.attn.c_proj`, context));
  const normed = scope.layerNorm(`${path}.ln_2`, attended, layerNormEpsilon);
  const inner = geluTanh(scope.linear(`${path}.mlp.c_fc`, normed)); // [B, Q, inner]
  return tf.add(attended, scope.linear(`${path}.mlp.c_proj`, inner)); // [B, Q, H]
}
