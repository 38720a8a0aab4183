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
import type { Task } from '@peftjs/core/model';
import { softCapped } from '@peftjs/core/nn';
import * as tf from '@tensorflow/tfjs-core';
import type { Tensor } from '@tensorflow/tfjs-core';
import type { Architecture, Dropout } from './architecture.js';
import type { Block } from './block.js';
import { decoder } from './decoder.js';
import { ropeNumbers } from './rope.js';
import type { RotaryDecoderConfig } from './rotary-config.js';
import { ownActivation } from './transformers/config.js';

/** Builds the network for a task. */
export function rotaryDecoder(config: RotaryDecoderConfig, task: Task): Architecture {
  const { name, vocabSize, layers, tieWordEmbeddings, padTokenId, embeddingScale, rebuildCacheAt } = config;
  const { texts, tokens } = config.classifies ?? { texts: true, tokens: true };
  return decoder(
    {
      name,
      maxTokens: config.maxPositionEmbeddings,
      settings: numbersOf(config),
      table: 'model.embed_tokens',
      words: vocabSize,
      embeddingScale,
      layers: layers.map((layer, index) => ({ ...layer, ...blockOf(config, index) })),
      finalNorm: 'model.norm',
      defaultTargetModules: config.isFused ? ['qkv_proj'] : ['q_proj', 'v_proj'],
      ofTexts: texts ? 'score' : null,
      ofTokens: tokens ? 'score' : null,
      tokenDropout: config.dropout?.tokens,
      tied: tieWordEmbeddings,
      padTokenId,
      finish: (logits) => finished(config, logits),
      rebuildCacheAt,
    },
    task,
  );
}

function blockOf(config: RotaryDecoderConfig, layer: number): Block {
  const { norms, queryKeyNorm, isFused = false, dropout } = config;
  const residual = (place: string): Dropout | undefined =>
    dropout?.residual === undefined ? undefined : [place, dropout.residual];
  return {
    path: `model.layers.${layer}`,
    layer,
    width: config.hiddenSize,
    norm: { kind: 'rms', epsilon: config.rmsNormEps, offset: config.normOffset },
    residualScale: config.residualScale,
    attention: {
      before: norms.beforeAttention,
      qkv: isFused ? 'self_attn.qkv_proj' : ['self_attn.q_proj', 'self_attn.k_proj', 'self_attn.v_proj'],
      hasBias: config.qkvBias ?? false,
      queryKeyNorm: queryKeyNorm && { query: 'self_attn.q_norm', key: 'self_attn.k_norm', over: queryKeyNorm },
      heads: config.numAttentionHeads,
      keyHeads: config.numKeyValueHeads,
      headDim: config.headDim,
      scale: config.attentionScale,
      softcap: config.attentionSoftcap,
      weightsDropout: dropout && ['self_attn.attention_dropout', dropout.attention],
      output: 'self_attn.o_proj',
      outputBias: config.outputBias ?? false,
      after: norms.afterAttention,
      dropout: residual('resid_attn_dropout'),
    },
    feedForward: {
      before: norms.beforeFeedForward,
      width: config.intermediateSize,
      inner: isFused ? 'mlp.gate_up_proj' : ['mlp.gate_proj', 'mlp.up_proj'],
      isFused,
      act: config.hiddenAct,
      outer: 'mlp.down_proj',
      hasBias: config.mlpBias ?? false,
      after: norms.afterFeedForward,
      dropout: residual('resid_mlp_dropout'),
    },
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

/** Applies divisor and soft cap to the language model's logits, [.., words]. */
function finished({ logitDivisor, logitSoftcap }: RotaryDecoderConfig, logits: Tensor): Tensor {
  const divided = logitDivisor === undefined ? logits : tf.div(logits, logitDivisor);
  return logitSoftcap === undefined ? divided : softCapped(divided, logitSoftcap);
}
