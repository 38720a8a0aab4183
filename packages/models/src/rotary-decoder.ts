/**
 * Llama-style decoders (Touvron et al., 2023): words, then transformer layers with rotary positions and causal
 * attention, and the heads of transformers. Settings cover what differs between models: more norms, a window, a factor.
 *
 *   x0 = e w                                             w: rows of the word embedding table
 *   a  = x + r N2(Attention(N1(x)) W_o)                  softmax(s q' k'^T + bias) v in each head; q' = R Nq(q),
 *                                                        k' = R Nk(k), where R rotates by position
 *   x' = a + r N4((act(m W_g) * m W_u) W_d)              m = N3(a)
 *   h  = N(x_L)                                          N(x) = x / rms(x) * (gain + offset), or x without a norm
 *   of a text       h[last token that is not padding] W_s
 *   of tokens       h W_c + b_c
 *   the next token  cap(h W_l / d)                       W_l: lm_head or the transposed word table;
 *                                                        cap(z) = c tanh(z / c)
 *   encode          h[last token]
 *
 * Several query heads may share a key and value head. Settings decide which W have a bias.
 */
import type { Site, Tensors } from '@peftjs/core/method';
import { embeddingSite, layerNormSite, linearSite, type Scope, type SitePosition, type Task } from '@peftjs/core/model';
import { activations, attention, softCapped, type RotaryOptions } from '@peftjs/core/nn';
import * as tf from '@tensorflow/tfjs-core';
import type { Tensor } from '@tensorflow/tfjs-core';
import { batchInput, layersDropouts, type Architecture, type Network } from './architecture.js';
import { ropeAngles, ropeNumbers, rotatedHeads, type RopeConfig } from './rope.js';
import type { Biases, Context } from './context.js';
import { decoder } from './decoder.js';
import { checkTokens, type LastToken } from './reading.js';
import type { DecoderDropout, RotaryDecoderConfig, RotaryLayer } from './rotary-config.js';
import { ownActivation } from './transformers/config.js';

const WORDS = 'model.embed_tokens';
const FINAL_NORM = 'model.norm';
const ATTENTION_DROPOUT = 'self_attn.attention_dropout';

/** Builds the network for a task. */
export function rotaryDecoder(config: RotaryDecoderConfig, task: Task): Architecture {
  const { hiddenSize, layers, numKeyValueHeads, headDim, vocabSize, tieWordEmbeddings, rebuildCacheAt } = config;
  const { texts, tokens } = config.classifies ?? { texts: true, tokens: true };
  return decoder(
    network(config),
    {
      width: hiddenSize,
      hidden: (...pass) => hiddenStates(config, ...pass),
      layers: layers.length,
      keyHeads: numKeyValueHeads,
      headDim,
      ofTexts: texts ? 'score' : null,
      ofTokens: tokens ? 'score' : null,
      tokenDropout: config.dropout?.tokens,
      table: WORDS,
      words: vocabSize,
      tied: tieWordEmbeddings,
      padTokenId: config.padTokenId,
      finish: (logits) => finished(config, logits),
      ...(rebuildCacheAt !== undefined && { rebuildCacheAt }),
    },
    task,
  );
}

function network(config: RotaryDecoderConfig): Omit<Network, 'encode'> {
  const { name, vocabSize, hiddenSize, maxPositionEmbeddings, layers, isFused } = config;
  return {
    name,
    maxTokens: maxPositionEmbeddings,
    settings: numbersOf(config),
    sites: [
      embeddingSite(WORDS, vocabSize, hiddenSize),
      ...layers.flatMap((_, layer) => layerSites(config, layer)),
      rmsNormSite(FINAL_NORM, hiddenSize),
    ],
    encodeOnly: [],
    defaultTargetModules: isFused ? ['qkv_proj'] : ['q_proj', 'v_proj'],
    lookups: [{ site: WORDS, ids: 'inputIds' }],
    ...(config.dropout && { dropouts: dropoutsOf(config, config.dropout) }),
  };
}

/**
 * Returns the numbers that affect the output but no shape, for the model's identity. Shared rope settings appear once.
 */
function numbersOf(config: RotaryDecoderConfig): Record<string, number> {
  const { numAttentionHeads, headDim, rmsNormEps, layers } = config;
  const usual = layers.find(({ rope }) => rope)?.rope;
  const own = layers.flatMap(({ window, rope }, layer) => [
    ...(window === undefined ? [] : [[`window.${layer}`, window] as const]),
    ...(rope === usual ? [] : Object.entries(rope ? ropeNumbers(rope) : { ropeTheta: 0 })).map(
      ([name, value]) => [`${name}.${layer}`, value] as const,
    ),
  ]);
  const optional = [
    'normOffset',
    'attentionScale',
    'attentionSoftcap',
    'logitSoftcap',
    'logitDivisor',
    'embeddingScale',
    'residualScale',
  ] as const;
  return {
    numAttentionHeads,
    headDim,
    rmsNormEps,
    ...(usual && ropeNumbers(usual)),
    ...ownActivation(config.hiddenAct, 'silu'),
    ...Object.fromEntries(optional.flatMap((name) => (config[name] === undefined ? [] : [[name, config[name]]]))),
    ...Object.fromEntries(own),
  };
}

function layerSites(config: RotaryDecoderConfig, layer: number): Site[] {
  const { hiddenSize, intermediateSize, isFused, queryKeyNorm, outputBias = false, mlpBias = false } = config;
  const { beforeAttention, afterAttention, beforeFeedForward, afterFeedForward } = config.norms;
  const path = layerPath(layer);
  const [queries, keys] = widths(config);
  const norm = (name: string | undefined, width = hiddenSize): Site[] =>
    name === undefined ? [] : [rmsNormSite(`${path}.${name}`, width, { layer })];
  const linear = (
    name: string,
    sizes: readonly [number, number],
    role: SitePosition['role'],
    hasBias: boolean,
  ): Site => ({
    ...linearSite(`${path}.${name}`, ...sizes, { role, layer } as SitePosition),
    hasBias,
  });
  const qkv = (name: string, width: number, role: SitePosition['role']): Site =>
    linear(`self_attn.${name}`, [hiddenSize, width], role, config.qkvBias ?? false);
  const inner = (name: string, width: number): Site => linear(`mlp.${name}`, [hiddenSize, width], 'ffn.in', mlpBias);
  const isByHead = queryKeyNorm === 'head';
  return [
    ...norm(beforeAttention),
    ...(isFused
      ? [qkv('qkv_proj', queries + 2 * keys, 'attention.qkv')]
      : [
          qkv('q_proj', queries, 'attention.query'),
          qkv('k_proj', keys, 'attention.key'),
          qkv('v_proj', keys, 'attention.value'),
        ]),
    ...norm(queryKeyNorm && 'self_attn.q_norm', isByHead ? config.headDim : queries),
    ...norm(queryKeyNorm && 'self_attn.k_norm', isByHead ? config.headDim : keys),
    linear('self_attn.o_proj', [queries, hiddenSize], 'attention.output', outputBias),
    ...norm(afterAttention),
    ...norm(beforeFeedForward),
    ...(isFused
      ? [inner('gate_up_proj', 2 * intermediateSize)]
      : [inner('gate_proj', intermediateSize), inner('up_proj', intermediateSize)]),
    linear('mlp.down_proj', [intermediateSize, hiddenSize], 'ffn.out', mlpBias),
    ...norm(afterFeedForward),
  ];
}

function dropoutsOf({ layers }: RotaryDecoderConfig, { attention, residual }: DecoderDropout): Record<string, number> {
  return layersDropouts(layers.length, (layer) => ({
    [`${layerPath(layer)}.${ATTENTION_DROPOUT}`]: attention,
    ...(residual !== undefined && {
      [`${layerPath(layer)}.resid_attn_dropout`]: residual,
      [`${layerPath(layer)}.resid_mlp_dropout`]: residual,
    }),
  }));
}

/** Returns the total widths of the query heads and of the key heads. */
function widths({ numAttentionHeads, numKeyValueHeads, headDim }: RotaryDecoderConfig): readonly [number, number] {
  return [numAttentionHeads * headDim, numKeyValueHeads * headDim];
}

/** Returns the module of a norm with a gain and no bias. */
function rmsNormSite(path: string, width: number, position: SitePosition = {}): Site {
  return { ...layerNormSite(path, width, position), hasBias: false };
}

function layerPath(layer: number): string {
  return `model.layers.${layer}`;
}

/** inputIds [B, S] int32 -> [B, S, H], or [B, 1, H] with `only` */
function hiddenStates(
  config: RotaryDecoderConfig,
  scope: Scope,
  inputs: Tensors,
  context: Context,
  only?: LastToken,
): Tensor {
  const ids = batchInput(inputs, 'inputIds');
  checkTokens(config.name, ids, config.maxPositionEmbeddings);
  const pass = passValues(config, context);
  let x = scaled(scope.embedding(WORDS, ids), config.embeddingScale); // [B, S, H]
  for (const layer of config.layers.keys()) {
    x = transformerLayer(config, scope, layer, {
      x,
      pass,
      only: layer === config.layers.length - 1 ? only : undefined,
    });
  }
  return normed(config, scope, FINAL_NORM, x);
}

/** The values that layers share, computed once per pass. */
interface PassValues {
  readonly context: Context;
  readonly angles: ReadonlyMap<RopeConfig, RotaryOptions>;
  readonly within: ReadonlyMap<number, Biases>;
}

function passValues({ layers, headDim }: RotaryDecoderConfig, context: Context): PassValues {
  const ropes = new Set(layers.flatMap(({ rope }) => (rope ? [rope] : [])));
  const windows = new Set(layers.flatMap(({ window }) => (window === undefined ? [] : [window])));
  return {
    context,
    angles: new Map(Array.from(ropes, (rope) => [rope, ropeAngles(rope, headDim, context)])),
    within: new Map(Array.from(windows, (window) => [window, context.within(window)])),
  };
}

/** The inputs of a layer. */
interface LayerInputs {
  /** The hidden states of all tokens, [B, S, H]. */
  readonly x: Tensor;
  readonly pass: PassValues;
  /** The token that the layer is computed for. Default: all tokens. */
  readonly only?: LastToken | undefined;
}

/** x [B, S, H] -> [B, Q, H] */
function transformerLayer(config: RotaryDecoderConfig, scope: Scope, layer: number, inputs: LayerInputs): Tensor {
  const { x, only } = inputs;
  const { beforeAttention, afterAttention, beforeFeedForward, afterFeedForward } = config.norms;
  const path = layerPath(layer);
  const norm = (name: string | undefined, states: Tensor): Tensor =>
    name === undefined ? states : normed(config, scope, `${path}.${name}`, states);
  const dropped = (place: string, change: Tensor): Tensor =>
    config.dropout?.residual === undefined ? change : scope.dropout(`${path}.${place}`, change);
  const added = (states: Tensor, change: Tensor): Tensor => tf.add(states, scaled(change, config.residualScale));
  const context = attended(config, scope, layer, { ...inputs, x: norm(beforeAttention, x) }); // [B, Q, heads * size]
  const mixed = norm(afterAttention, scope.linear(`${path}.self_attn.o_proj`, context)); // [B, Q, H]
  const a = added(only ? only.read(x) : x, dropped('resid_attn_dropout', mixed));
  const inner = gated(config, scope, path, norm(beforeFeedForward, a)); // [B, Q, intermediate]
  const outer = norm(afterFeedForward, scope.linear(`${path}.mlp.down_proj`, inner)); // [B, Q, H]
  return added(a, dropped('resid_mlp_dropout', outer));
}

/** m [B, Q, H] -> act(m W_g) * m W_u, [B, Q, intermediate] */
function gated(config: RotaryDecoderConfig, scope: Scope, path: string, m: Tensor): Tensor {
  const { hiddenAct, isFused } = config;
  const activation = activations[hiddenAct];
  if (!isFused) {
    const gate = activation(scope.linear(`${path}.mlp.gate_proj`, m));
    return tf.mul(gate, scope.linear(`${path}.mlp.up_proj`, m));
  }
  const [gate, up] = tf.split(scope.linear(`${path}.mlp.gate_up_proj`, m), 2, 2) as [Tensor, Tensor];
  return tf.mul(activation(gate), up);
}

/** Computes the attention of normalised x [B, S, H] before W_o, [B, Q, heads * size]. */
function attended(config: RotaryDecoderConfig, scope: Scope, layer: number, inputs: LayerInputs): Tensor {
  const { numAttentionHeads, numKeyValueHeads, attentionScale, attentionSoftcap } = config;
  const { context, angles, within } = inputs.pass;
  const { window, rope } = config.layers[layer] as RotaryLayer;
  const rotated = (states: Tensor, positions = context.positions): Tensor => {
    const own = rope && angles.get(rope);
    return own ? rotatedHeads(config.headDim, states, { ...own, ...(positions && { positions }) }) : states;
  };
  const { q, k, v } = projected(config, scope, layer, inputs);
  const { keys, values } = context.attended(layer, { keys: rotated(k), values: v }); // [B, keys, keyHeads * size]
  const { bias, lastBias, hiding } = window === undefined ? context : (within.get(window) as Biases);
  return attention(rotated(q, inputs.only?.positions), keys, values, {
    heads: numAttentionHeads,
    keyHeads: numKeyValueHeads,
    ...(inputs.only ? { maskBias: lastBias } : { maskBias: bias, ...hiding }),
    maxTokens: config.maxPositionEmbeddings,
    dropout: (weights) => scope.dropout(`${layerPath(layer)}.${ATTENTION_DROPOUT}`, weights),
    ...(attentionScale !== undefined && { scale: attentionScale }),
    ...(attentionSoftcap !== undefined && { softcap: attentionSoftcap }),
  });
}

/** Computes queries [B, Q, heads * size], keys and values [B, S, keyHeads * size], before rotation. */
function projected(
  config: RotaryDecoderConfig,
  scope: Scope,
  layer: number,
  { x, only }: LayerInputs,
): Readonly<Record<'q' | 'k' | 'v', Tensor>> {
  const path = `${layerPath(layer)}.self_attn`;
  const read = (states: Tensor): Tensor => (only ? only.read(states) : states);
  const norm = (name: string, states: Tensor): Tensor =>
    config.queryKeyNorm ? normedHeads(config, scope, `${path}.${name}`, states) : states;
  if (config.isFused) {
    const [queries, keys] = widths(config);
    const qkv = scope.linear(`${path}.qkv_proj`, x); // [B, S, (heads + 2 keyHeads) * size]
    const [q, k, v] = tf.split(qkv, [queries, keys, keys], 2) as [Tensor, Tensor, Tensor];
    return { q: norm('q_norm', read(q)), k: norm('k_norm', k), v };
  }
  return {
    q: norm('q_norm', scope.linear(`${path}.q_proj`, read(x))),
    k: norm('k_norm', scope.linear(`${path}.k_proj`, x)),
    v: scope.linear(`${path}.v_proj`, x),
  };
}

/** Normalises [B, S, heads * size], per head or over all heads. */
function normedHeads(config: RotaryDecoderConfig, scope: Scope, path: string, states: Tensor): Tensor {
  if (config.queryKeyNorm === 'all') return normed(config, scope, path, states);
  const [batch, tokens, features] = states.shape as [number, number, number];
  const heads = tf.reshape(states, [batch, tokens, features / config.headDim, config.headDim]);
  return tf.reshape(normed(config, scope, path, heads), states.shape);
}

function normed({ rmsNormEps, normOffset }: RotaryDecoderConfig, scope: Scope, path: string, x: Tensor): Tensor {
  return scope.rmsNorm(path, x, rmsNormEps, normOffset);
}

/** Applies divisor and soft cap to the language model's logits, [.., words]. */
function finished({ logitDivisor, logitSoftcap }: RotaryDecoderConfig, logits: Tensor): Tensor {
  const divided = logitDivisor === undefined ? logits : tf.div(logits, logitDivisor);
  return logitSoftcap === undefined ? divided : softCapped(divided, logitSoftcap);
}

function scaled(x: Tensor, factor?: number): Tensor {
  return factor === undefined ? x : tf.mul(x, factor);
}
