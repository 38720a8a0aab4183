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
import { attention, rotary, silu, type RotaryOptions } from '@peftjs/core/nn';
import { batchInput, type Architecture, type Network } from '../architecture.js';
import type { Context } from '../context.js';
import { decoder } from '../decoder.js';
import { checkTokens, lastToken, type LastToken } from '../reading.js';
import { ropeAngles, ropeFrequencies, type RopeConfig } from './rope.js';

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
  const { hiddenSize, numHiddenLayers, numKeyValueHeads, headDim, vocabSize, tieWordEmbeddings } = config;
  return decoder(
    network(config),
    {
      width: hiddenSize,
      last: (...pass) => lastTokenHidden(config, ...pass),
      every: (...pass) => everyHidden(config, ...pass),
      layers: numHiddenLayers,
      keyWidth: numKeyValueHeads * headDim,
      ofTokens: 'score',
      table: WORDS,
      words: vocabSize,
      tied: tieWordEmbeddings,
    },
    task,
  );
}

function network(config: LlamaConfig): Omit<Network, 'encode'> {
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

/** inputIds [B, S] int32 -> [B, S, H] */
function everyHidden(config: LlamaConfig, scope: Scope, inputs: Tensors, context: Context): Tensor {
  const below = belowLast(config, scope, inputs, context);
  const last = transformerLayer(config, scope, config.numHiddenLayers - 1, below);
  return scope.rmsNorm(FINAL_NORM, last, config.rmsNormEps);
}

/** The last layer but for its keys and values is computed for the last token alone: [B, S] -> [B, 1, H]. */
function lastTokenHidden(config: LlamaConfig, scope: Scope, inputs: Tensors, context: Context): Tensor {
  const below = belowLast(config, scope, inputs, context);
  const only = lastToken(batchInput(inputs, 'attentionMask'));
  const last = transformerLayer(config, scope, config.numHiddenLayers - 1, { ...below, only });
  return scope.rmsNorm(FINAL_NORM, last, config.rmsNormEps);
}

/** What the last layer is given. */
function belowLast(config: LlamaConfig, scope: Scope, inputs: Tensors, context: Context): LayerInputs {
  const ids = batchInput(inputs, 'inputIds');
  checkTokens(config.name, ids, config.maxPositionEmbeddings);
  const angles = anglesOf(config, context.reach);
  let x = scope.embedding(WORDS, ids); // [B, S, H]
  for (let layer = 0; layer < config.numHiddenLayers - 1; layer++) {
    x = transformerLayer(config, scope, layer, { x, context, angles });
  }
  return { x, context, angles };
}

/** [positions, size / 2] */
function anglesOf({ rope, headDim }: LlamaConfig, positions: number): RotaryOptions {
  return ropeAngles(ropeFrequencies(rope, headDim), positions);
}

/** What a layer computes with. */
interface LayerInputs {
  /** All tokens: [B, S, H]. */
  readonly x: Tensor;
  readonly context: Context;
  readonly angles: RotaryOptions;
  /** The token that it is computed for; left out, it is computed for all of them. */
  readonly only?: LastToken;
}

/** x [B, S, H] -> [B, Q, H] */
function transformerLayer(config: LlamaConfig, scope: Scope, layer: number, inputs: LayerInputs): Tensor {
  const { x, only } = inputs;
  const path = layerPath(layer);
  const normed = scope.rmsNorm(`${path}.input_layernorm`, x, config.rmsNormEps); // [B, S, H]
  const context = attended(config, scope, layer, { ...inputs, x: normed }); // [B, Q, heads * size]
  const a = tf.add(only ? only.read(x) : x, scope.linear(`${path}.self_attn.o_proj`, context)); // [B, Q, H]
  const m = scope.rmsNorm(`${path}.post_attention_layernorm`, a, config.rmsNormEps);
  const gate = silu(scope.linear(`${path}.mlp.gate_proj`, m)); // [B, Q, intermediate]
  const inner = tf.mul(gate, scope.linear(`${path}.mlp.up_proj`, m));
  return tf.add(a, scope.linear(`${path}.mlp.down_proj`, inner)); // [B, Q, H]
}

/** Normalised x [B, S, H] -> what its tokens read of those that they attend to, [B, Q, heads * size]. */
function attended(
  { numAttentionHeads, numKeyValueHeads }: LlamaConfig,
  scope: Scope,
  layer: number,
  { x, context, angles, only }: LayerInputs,
): Tensor {
  const path = `${layerPath(layer)}.self_attn`;
  const turned = (states: Tensor, positions = context.positions): Tensor =>
    rotary(states, { ...angles, ...(positions && { positions }) });
  const queries = scope.linear(`${path}.q_proj`, only ? only.read(x) : x); // [B, Q, heads * size]
  const own = {
    keys: turned(scope.linear(`${path}.k_proj`, x)), // [B, S, keyHeads * size]
    values: scope.linear(`${path}.v_proj`, x), // [B, S, keyHeads * size]
  };
  const { keys, values } = context.attended(layer, own); // [B, keys, keyHeads * size]
  return attention(turned(queries, only?.positions), keys, values, {
    heads: numAttentionHeads,
    keyHeads: numKeyValueHeads,
    maskBias: only ? context.lastBias : context.bias,
  });
}
