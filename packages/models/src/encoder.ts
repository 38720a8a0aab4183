/**
 * The encoder of BERT (Devlin et al., 2019) and its family: word pieces, then post-norm transformer layers.
 *
 *   x0 = LN(w + p + t) W_e     w, p, t: rows of the word, position and token type tables; W_e only if narrower than H
 *   a  = LN(x + Attention(x))  softmax(q k^T / sqrt(H / heads)) v W_o in each head; q, k, v = x W_q, x W_k, x W_v
 *   x' = LN(a + act(a W_i) W_f)
 *
 * Every W has a bias. act is gelu(z) = z Phi(z) unless config.json names another.
 */
import type { Site, Tensors } from '@peftjs/core/method';
import { embeddingSite, layerNormSite, linearSite, type Scope, type Task } from '@peftjs/core/model';
import { maskBias, type ActivationName } from '@peftjs/core/nn';
import * as tf from '@tensorflow/tfjs-core';
import type { Tensor } from '@tensorflow/tfjs-core';
import {
  batchInput,
  encoderHead,
  type Architecture,
  type Dropout,
  type Features,
  type Head,
  type Network,
} from './architecture.js';
import { blockDropouts, blockSites, runBlocks, type Block } from './block.js';
import {
  checkTokens,
  everyToken,
  firstToken,
  onlyToken,
  positionIds,
  positionsOfTokens,
  tokenMean,
  type Reader,
} from './reading.js';
import { ownActivation } from './transformers/config.js';

/** The settings of the encoder. */
export interface EncoderConfig extends EncoderLayers {
  /** The name of the network. Default `root`. */
  readonly name?: string;
  /** The number of tokens in the vocabulary. */
  readonly vocabSize: number;
  /** The number of rows in the position table. */
  readonly maxPositionEmbeddings: number;
  /**
   * The padding ID, also the position of padding: other tokens count up from the next position. Default: positions 0,
   * 1, ..
   */
  readonly padTokenId?: number;
  /** The term that every layer adds to its scores for the distance between two tokens. */
  readonly relativeBias?: RelativeBias;
  /** The number of token types. Absent if the model has none. */
  readonly typeVocabSize?: number;
  /** The width of the embedding tables. Default `hiddenSize`. */
  readonly embeddingSize?: number;
  /** The suffixes of the modules adapted by default. */
  readonly defaultTargetModules: readonly string[];
}

/** The settings of an encoder's layers. */
export interface EncoderLayers {
  /** The first part of all module paths. */
  readonly root: string;
  /** The path of the layers below the root, before a layer's index. */
  readonly layers: string;
  /** The module names within a layer. */
  readonly names: LayerNames;
  /** The number of transformer layers. */
  readonly numHiddenLayers: number;
  /** The number of attention heads; must divide `hiddenSize`. */
  readonly numAttentionHeads: number;
  /** The width of the hidden states, H. */
  readonly hiddenSize: number;
  /** The width inside the feed-forward module. */
  readonly intermediateSize: number;
  /** Epsilon of the layer norms. */
  readonly layerNormEps: number;
  /** The activation of the feed-forward module. Default 'gelu'. */
  readonly hiddenAct?: ActivationName;
  /** The encoder's dropout rates. Default: none. */
  readonly dropout?: EncoderDropout;
}

/** The rates of an encoder's own dropout. */
export interface EncoderDropout {
  /** Of hidden states: after W_o and W_f, and of the embeddings. */
  readonly hidden: number;
  /** Of the attention's weights. */
  readonly attention: number;
  /** Before the token classifier. */
  readonly tokens: number;
}

/** The names of a layer's modules below the layer's path, as in transformers. */
export interface LayerNames {
  /** W_q */
  readonly query: string;
  /** W_k */
  readonly key: string;
  /** W_v */
  readonly value: string;
  /** W_o */
  readonly output: string;
  /** The norm after W_o. */
  readonly outputNorm: string;
  /** W_i */
  readonly inner: string;
  /** W_f */
  readonly outer: string;
  /** The norm after W_f. */
  readonly outerNorm: string;
  /** The places of dropout: of the attention's weights, after W_o if there is one, and after W_f. */
  readonly dropouts: { readonly attention: string; readonly output?: string; readonly outer: string };
}

/** The names used by BERT and most of its successors. */
export const bertLayerNames: LayerNames = {
  query: 'attention.self.query',
  key: 'attention.self.key',
  value: 'attention.self.value',
  output: 'attention.output.dense',
  outputNorm: 'attention.output.LayerNorm',
  inner: 'intermediate.dense',
  outer: 'output.dense',
  outerNorm: 'output.LayerNorm',
  dropouts: { attention: 'attention.self.dropout', output: 'attention.output.dropout', outer: 'output.dropout' },
};

/** Returns the layers of an encoder, from the first to the last. */
export function encoderBlocks(config: EncoderLayers): Block[] {
  const { root, layers, names, hiddenSize, numAttentionHeads, hiddenAct = 'gelu', dropout } = config;
  const hidden = (place: string | undefined): Dropout | undefined =>
    dropout && place !== undefined ? [place, dropout.hidden] : undefined;
  return Array.from({ length: config.numHiddenLayers }, (_, layer) => ({
    path: `${root}.${layers}.${layer}`,
    layer,
    width: hiddenSize,
    norm: { kind: 'layer', epsilon: config.layerNormEps },
    attention: {
      qkv: [names.query, names.key, names.value],
      heads: numAttentionHeads,
      weightsDropout: dropout && [names.dropouts.attention, dropout.attention],
      output: names.output,
      dropout: hidden(names.dropouts.output),
      sum: names.outputNorm,
    },
    feedForward: {
      inner: names.inner,
      width: config.intermediateSize,
      act: hiddenAct,
      outer: names.outer,
      dropout: hidden(names.dropouts.outer),
      sum: names.outerNorm,
    },
  }));
}

/** A learned bias of attention scores by the distance between two tokens. */
export interface RelativeBias {
  /** The module of its table. */
  readonly site: Site;
  /** Returns the bias for a sequence of that length, [1, heads, tokens, tokens]. */
  scores(scope: Scope, tokens: number): Tensor;
}

/**
 * Builds an encoder with the head of transformers for a task. `ofTexts` returns that of texts, on the first token.
 * @throws UnsupportedError when it has no head for the task.
 */
export function encoderWithHead(
  config: EncoderConfig,
  ofTexts: (width: number, first: Features) => Head,
  task: Task,
): Architecture {
  const network = encoderNetwork(config);
  const { hiddenSize: width } = config;
  const every = everyTokenOf(config);
  const heads = { ofTexts: ofTexts(width, firstTokenOf(config)), every, width, dropout: config.dropout?.tokens };
  return { ...network, head: encoderHead(network.name, heads, task) };
}

/** Builds the encoder of a configuration, without a head. */
export function encoderNetwork(config: EncoderConfig): Network {
  const { root, name = root, typeVocabSize, numAttentionHeads, layerNormEps, padTokenId, hiddenAct = 'gelu' } = config;
  return {
    name,
    maxTokens: maxTokens(config),
    ...(typeVocabSize !== undefined && { tokenTypes: typeVocabSize }),
    settings: {
      numAttentionHeads,
      layerNormEps,
      ...(padTokenId !== undefined && { firstPosition: padTokenId + 1 }),
      ...ownActivation(hiddenAct, 'gelu'),
    },
    sites: [...embeddingSites(config), ...encoderBlocks(config).flatMap(blockSites)],
    encodeOnly: [],
    defaultTargetModules: config.defaultTargetModules,
    lookups: [{ site: `${root}.embeddings.word_embeddings`, ids: 'inputIds' }],
    ...(config.dropout && {
      dropouts: { [`${root}.embeddings.dropout`]: config.dropout.hidden, ...blockDropouts(encoderBlocks(config)) },
    }),
    encode: (scope, inputs) =>
      tokenMean(lastHidden(config, scope, inputs, everyToken), batchInput(inputs, 'attentionMask')),
  };
}

/** Returns features: the last layer's output at the first token, [B, H]. */
export function firstTokenOf(config: EncoderConfig): Features {
  return (scope, inputs) => onlyToken(lastHidden(config, scope, inputs, firstToken));
}

/** Returns features: the last layer's output at every token, [B, S, H]. */
export function everyTokenOf(config: EncoderConfig): Features {
  return (scope, inputs) => lastHidden(config, scope, inputs, everyToken);
}

function maxTokens({ maxPositionEmbeddings, padTokenId = -1 }: EncoderConfig): number {
  return maxPositionEmbeddings - (padTokenId + 1);
}

function embeddingSites(config: EncoderConfig): Site[] {
  const { root, vocabSize, maxPositionEmbeddings, typeVocabSize, hiddenSize, embeddingSize = hiddenSize } = config;
  const path = `${root}.embeddings`;
  return [
    embeddingSite(`${path}.word_embeddings`, vocabSize, embeddingSize),
    embeddingSite(`${path}.position_embeddings`, maxPositionEmbeddings, embeddingSize),
    ...(typeVocabSize === undefined
      ? []
      : [embeddingSite(`${path}.token_type_embeddings`, typeVocabSize, embeddingSize)]),
    layerNormSite(`${path}.LayerNorm`, embeddingSize),
    ...(embeddingSize === hiddenSize ? [] : [linearSite(`${root}.embeddings_project`, embeddingSize, hiddenSize)]),
    ...(config.relativeBias ? [config.relativeBias.site] : []),
  ];
}

/**
 * Computes the last layer only for the tokens that `read` selects. They attend to all tokens.
 * inputIds and tokenTypeIds [B, S] int32, attentionMask [B, S] float32 -> [B, Q, H]
 */
function lastHidden(config: EncoderConfig, scope: Scope, inputs: Tensors, read: Reader): Tensor {
  const mask = maskBias(batchInput(inputs, 'attentionMask')); // [B, S] -> [B, 1, 1, S]
  const x = embed(config, scope, inputs); // [B, S, H]
  const relative = config.relativeBias?.scores(scope, x.shape[1] as number); // [1, heads, S, S]
  const all = relative ? { bias: tf.add(mask, relative) } : { maskBias: mask };
  return runBlocks(encoderBlocks(config), scope, x, (_, isLast, states) => {
    if (!isLast) return { options: all };
    const options = relative ? { bias: tf.add(mask, readRows(relative, read)) } : all; // [B, heads, Q, S]
    const own = read(states); // once, for the queries and for the sum
    return { options, read: () => own };
  });
}

/** Selects the score rows of the tokens in `read`: [1, heads, S, S] -> [1, heads, Q, S]. */
function readRows(scores: Tensor, read: Reader): Tensor {
  return tf.expandDims(read(tf.squeeze(scores, [0])), 0); // a reader selects on the second of three axes
}

/** Sums the embeddings of words, positions and token types (0 if the batch has none): [B, S] -> [B, S, H]. */
function embed(config: EncoderConfig, scope: Scope, inputs: Tensors): Tensor {
  const { root, padTokenId, hiddenSize, embeddingSize = hiddenSize } = config;
  const path = `${root}.embeddings`;
  const ids = batchInput(inputs, 'inputIds');
  checkTokens(root, ids, maxTokens(config));
  const tokens = ids.shape[1] as number;
  const words = scope.embedding(`${path}.word_embeddings`, ids); // [B, S, embedding]
  const rows = padTokenId === undefined ? positionIds(tokens) : positionsOfTokens(ids, padTokenId); // [1 or B, S]
  const positions = scope.embedding(`${path}.position_embeddings`, rows); // [1 or B, S, embedding]
  const rest = config.typeVocabSize === undefined ? positions : tf.add(positions, types(scope, path, inputs, tokens));
  const normed = scope.layerNorm(`${path}.LayerNorm`, tf.add(words, rest), config.layerNormEps);
  const x = scope.dropout(`${path}.dropout`, normed);
  return embeddingSize === hiddenSize ? x : scope.linear(`${root}.embeddings_project`, x);
}

/** [B or 1, S, embedding] */
function types(scope: Scope, path: string, { tokenTypeIds }: Tensors, tokens: number): Tensor {
  return scope.embedding(`${path}.token_type_embeddings`, tokenTypeIds ?? tf.zeros([1, tokens], 'int32'));
}
