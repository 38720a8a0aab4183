/**
 * Llama (Touvron et al., 2023) and what shares its form (SmolLM, Qwen2): words, then pre-norm transformer layers with rotary
 * positions of which no token looks ahead, and the heads of transformers. Module paths are those of
 * LlamaForSequenceClassification, LlamaForTokenClassification and LlamaForCausalLM.
 *
 *   x0 = w                                        rows of the table of words
 *   a  = x + Attention(RMS(x)) W_o                softmax(R q (R k)^T / sqrt(size)) v in each head; R turns by the position
 *   x' = a + (silu(m W_g) * m W_u) W_d            m = RMS(a)
 *   h  = RMS(x_L)
 *   of a text       h[last token] W_s
 *   of tokens       h W_c + b_c
 *   the next token  h W_l                         W_l: lm_head, or the transposed table of words
 *   encode          h[last token]
 *
 * Heads of keys and values may be shared by several heads of queries. Which W have a bias is a setting.
 */
import * as tf from '@tensorflow/tfjs';
import type { Tensor } from '@tensorflow/tfjs';
import { embeddingSite, layerNormSite, linearSite } from '@peftjs/core';
import type { Place, Scope, Site, Task, Tensors } from '@peftjs/core';
import { attention, causalBias, maskBias, rotary, silu, type RotaryOptions } from '@peftjs/core/nn';
import { batchInput, type Architecture, type Network } from '../architecture.js';
import { decoder } from '../decoder.js';
import type { Features } from '../head.js';
import { checkTokens, lastToken, onlyToken, type LastToken } from '../reading.js';
import { ropeFrequencies, ropeTable, type RopeConfig } from './rope.js';

/** The settings of config.json that the network depends on, under their names there. */
export interface LlamaConfig {
  /** What the network is called. */
  readonly name: string;
  readonly vocabSize: number;
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly numHiddenLayers: number;
  readonly numAttentionHeads: number;
  /** Divides `numAttentionHeads`. */
  readonly numKeyValueHeads: number;
  /** An even number. */
  readonly headDim: number;
  readonly maxPositionEmbeddings: number;
  readonly rmsNormEps: number;
  readonly rope: RopeConfig;
  /** Whether queries, keys and values have a bias. */
  readonly qkvBias: boolean;
  /** Whether the attention's output has one. */
  readonly outputBias: boolean;
  /** Whether the feed-forward modules have one. */
  readonly mlpBias: boolean;
  readonly tieWordEmbeddings: boolean;
}

const WORDS = 'model.embed_tokens';
const FINAL_NORM = 'model.norm';

/** The network of a configuration for a task. */
export function llama(config: LlamaConfig, task: Task): Architecture {
  const last: Features = (scope, inputs) => onlyToken(lastTokenHidden(config, scope, inputs));
  const every: Features = (scope, inputs) => everyHidden(config, scope, inputs);
  const heads = { last, every, ofTokens: 'score', table: WORDS, tied: config.tieWordEmbeddings };
  return decoder(network(config, last), { ...heads, width: config.hiddenSize, words: config.vocabSize }, task);
}

function network(config: LlamaConfig, encode: Features): Network {
  const { name, vocabSize, hiddenSize, numHiddenLayers, maxPositionEmbeddings } = config;
  const { numAttentionHeads, headDim, rmsNormEps, rope } = config;
  const { kind: _, ...scaling } = rope.scaling;
  return {
    name,
    maxTokens: maxPositionEmbeddings,
    settings: { numAttentionHeads, headDim, rmsNormEps, ropeTheta: rope.theta, ...scaling },
    sites: [
      embeddingSite(WORDS, vocabSize, hiddenSize),
      ...Array.from({ length: numHiddenLayers }, (_, layer) => layerSites(config, layer)).flat(),
      rmsNormSite(FINAL_NORM, hiddenSize),
    ],
    encodeOnly: [],
    defaultTargetModules: ['q_proj', 'v_proj'],
    lookups: [{ site: WORDS, ids: 'inputIds' }],
    encode,
  };
}

function layerSites(config: LlamaConfig, layer: number): Site[] {
  const { hiddenSize, intermediateSize, numAttentionHeads, numKeyValueHeads, headDim } = config;
  const path = layerPath(layer);
  const [queries, keys] = [numAttentionHeads * headDim, numKeyValueHeads * headDim];
  const qkv = (name: string, width: number, role: Place['role']): Site => ({
    ...linearSite(`${path}.self_attn.${name}`, hiddenSize, width, { role, layer } as Place),
    hasBias: config.qkvBias,
  });
  const mlp = (name: string, inFeatures: number, outFeatures: number, role: 'ffn.in' | 'ffn.out'): Site => ({
    ...linearSite(`${path}.mlp.${name}`, inFeatures, outFeatures, { role, layer }),
    hasBias: config.mlpBias,
  });
  return [
    rmsNormSite(`${path}.input_layernorm`, hiddenSize, { layer }),
    qkv('q_proj', queries, 'attention.query'),
    qkv('k_proj', keys, 'attention.key'),
    qkv('v_proj', keys, 'attention.value'),
    {
      ...linearSite(`${path}.self_attn.o_proj`, queries, hiddenSize, { role: 'attention.output', layer }),
      hasBias: config.outputBias,
    },
    rmsNormSite(`${path}.post_attention_layernorm`, hiddenSize, { layer }),
    mlp('gate_proj', hiddenSize, intermediateSize, 'ffn.in'),
    mlp('up_proj', hiddenSize, intermediateSize, 'ffn.in'),
    mlp('down_proj', intermediateSize, hiddenSize, 'ffn.out'),
  ];
}

/** A norm that scales and does not shift. */
function rmsNormSite(path: string, width: number, place: Place = {}): Site {
  return { ...layerNormSite(path, width, place), hasBias: false };
}

function layerPath(layer: number): string {
  return `model.layers.${layer}`;
}

/** inputIds [B, S] int32, attentionMask [B, S] float32 -> [B, S, H] */
function everyHidden(config: LlamaConfig, scope: Scope, inputs: Tensors): Tensor {
  const { x, bias, angles } = belowLast(config, scope, inputs);
  const last = transformerLayer(config, scope, config.numHiddenLayers - 1, { x, bias, angles });
  return scope.rmsNorm(FINAL_NORM, last, config.rmsNormEps);
}

/** The last layer but for its keys and values is computed for the last token alone: [B, S] -> [B, 1, H]. */
function lastTokenHidden(config: LlamaConfig, scope: Scope, inputs: Tensors): Tensor {
  const { x, mask, angles } = belowLast(config, scope, inputs);
  const only = lastToken(batchInput(inputs, 'attentionMask'));
  const last = transformerLayer(config, scope, config.numHiddenLayers - 1, { x, bias: mask, angles, only });
  return scope.rmsNorm(FINAL_NORM, last, config.rmsNormEps);
}

/** What the last layer is given. */
interface BelowLast {
  /** [B, S, H] */
  readonly x: Tensor;
  /** What is added to the scores of all tokens: [B, 1, S, S]. */
  readonly bias: Tensor;
  /** The same for the last token: [B, 1, 1, S]. */
  readonly mask: Tensor;
  readonly angles: RotaryOptions;
}

function belowLast(config: LlamaConfig, scope: Scope, inputs: Tensors): BelowLast {
  const ids = batchInput(inputs, 'inputIds');
  checkTokens(config.name, ids, config.maxPositionEmbeddings);
  const tokens = ids.shape[1] as number;
  const mask = maskBias(batchInput(inputs, 'attentionMask')); // [B, S] -> [B, 1, 1, S]
  const bias = tf.add(causalBias(tokens), mask); // [1, 1, S, S] + [B, 1, 1, S]
  const angles = anglesOf(config, tokens);
  let x = scope.embedding(WORDS, ids); // [B, S, H]
  for (let layer = 0; layer < config.numHiddenLayers - 1; layer++) {
    x = transformerLayer(config, scope, layer, { x, bias, angles });
  }
  return { x, bias, mask, angles };
}

/** [S, size / 2] */
function anglesOf({ rope, headDim }: LlamaConfig, tokens: number): RotaryOptions {
  const { cos, sin } = ropeTable(ropeFrequencies(rope, headDim), tokens);
  const shape: [number, number] = [tokens, headDim / 2];
  return { cos: tf.tensor2d(cos, shape), sin: tf.tensor2d(sin, shape) };
}

/** What a layer computes with. */
interface LayerInputs {
  /** All tokens: [B, S, H]. */
  readonly x: Tensor;
  readonly bias: Tensor;
  readonly angles: RotaryOptions;
  /** The token that it is computed for; left out, it is computed for all of them. */
  readonly only?: LastToken;
}

/** x [B, S, H] -> [B, Q, H] */
function transformerLayer(
  config: LlamaConfig,
  scope: Scope,
  layer: number,
  { x, bias, angles, only }: LayerInputs,
): Tensor {
  const path = layerPath(layer);
  const normed = scope.rmsNorm(`${path}.input_layernorm`, x, config.rmsNormEps); // [B, S, H]
  const queries = scope.linear(`${path}.self_attn.q_proj`, only ? only.read(normed) : normed); // [B, Q, heads * size]
  const keys = scope.linear(`${path}.self_attn.k_proj`, normed); // [B, S, keyHeads * size]
  const values = scope.linear(`${path}.self_attn.v_proj`, normed); // [B, S, keyHeads * size]
  const context = attention(
    rotary(queries, { ...angles, ...(only && { positions: only.positions }) }),
    rotary(keys, angles),
    values,
    { heads: config.numAttentionHeads, keyHeads: config.numKeyValueHeads, maskBias: bias },
  ); // [B, Q, heads * size]
  const attended = tf.add(only ? only.read(x) : x, scope.linear(`${path}.self_attn.o_proj`, context)); // [B, Q, H]
  const m = scope.rmsNorm(`${path}.post_attention_layernorm`, attended, config.rmsNormEps);
  const gate = silu(scope.linear(`${path}.mlp.gate_proj`, m)); // [B, Q, intermediate]
  const inner = tf.mul(gate, scope.linear(`${path}.mlp.up_proj`, m));
  return tf.add(attended, scope.linear(`${path}.mlp.down_proj`, inner)); // [B, Q, H]
}
