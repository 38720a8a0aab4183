/**
 * DeBERTa v2 and v3 (He et al., 2021): word pieces, then post-norm transformer layers whose attention separates content
 * from position, and the heads of transformers. Module paths are those of DebertaV2ForSequenceClassification and
 * DebertaV2ForTokenClassification.
 *
 *   x0 = LN(w + p + t)                   rows of the word table; p and t only if the model has those tables
 *   the layers of encoder.ts, with softmax(s q k^T + b) v in each head
 *                                        b: deberta-v2-relative.ts, of relative positions r = LN(R)
 *   of a text   act(x_L[first token] W_d) W_c     W_d: pooler.dense
 *   of tokens   x_L W_c
 *   encode      mean over tokens of x_L
 *
 * s = 1 / sqrt(n H / heads), n: 1 plus the number of terms in b.
 */
import type { Site, Tensors } from '@peftjs/core/method';
import { embeddingSite, layerNormSite, linearSite, type Scope, type Task } from '@peftjs/core/model';
import { activations } from '@peftjs/core/nn';
import * as tf from '@tensorflow/tfjs-core';
import type { Tensor } from '@tensorflow/tfjs-core';
import { batchInput, denseHead, encoderHead, type Architecture, type Dropout, type Features } from '../architecture.js';
import { blockDropouts, blockSites, runBlocks, type Block } from '../block.js';
import { bertLayerNames, encoderBlocks } from '../encoder.js';
import { fileError, shown } from '../json.js';
import { checkTokens, everyToken, firstToken, onlyToken, positionIds, tokenMean, type Reader } from '../reading.js';
import {
  activation,
  boolean,
  dropoutRate,
  ownActivation,
  positiveInteger,
  positiveNumber,
  assertSetting,
  setting,
  nonNegativeInteger,
  type ConfigFile,
  type ModelType,
} from '../transformers/config.js';
import {
  contentToPosition,
  distances,
  positionToContent,
  relativeSpan,
  type Distances,
  type RelativeConfig,
} from './deberta-v2-relative.js';
import { encoderDropout, KEYS } from './encoder-settings.js';

/** The settings of config.json that the network depends on, with their names in camel case. */
type DebertaV2Config = ReturnType<typeof settings>;

const EMBEDDINGS = 'deberta.embeddings';
const RELATIVE = 'deberta.encoder.rel_embeddings';
const RELATIVE_NORM = 'deberta.encoder.LayerNorm';

const names = {
  ...bertLayerNames,
  query: 'attention.self.query_proj',
  key: 'attention.self.key_proj',
  value: 'attention.self.value_proj',
};

/** Builds the network for a task. @throws UnsupportedError when it has no head for the task. */
function debertaV2(config: DebertaV2Config, task: Task): Architecture {
  const { hiddenSize, typeVocabSize, dropout } = config;
  const first: Features = (scope, inputs) => onlyToken(lastHidden(config, scope, inputs, firstToken));
  const every: Features = (scope, inputs) => lastHidden(config, scope, inputs, everyToken);
  const pooled = {
    trained: ['pooler', 'classifier'],
    dense: 'pooler.dense',
    activation: activations[config.poolerHiddenAct],
    out: 'classifier',
    dropout: {
      dense: ['pooler.dropout', config.poolerDropout] satisfies Dropout,
      out: ['dropout', config.clsDropout] satisfies Dropout,
    },
  };
  const heads = { ofTexts: denseHead(pooled, hiddenSize, first), every, width: hiddenSize, dropout: dropout.tokens };
  return {
    name: 'deberta-v2',
    maxTokens: config.maxPositionEmbeddings,
    ...(typeVocabSize > 0 && { tokenTypes: typeVocabSize }),
    settings: settingsOf(config),
    sites: [...embeddingSites(config), ...blocksOf(config).flatMap((block) => sitesOf(config, block))],
    encodeOnly: [],
    defaultTargetModules: ['query_proj', 'value_proj'],
    lookups: [{ site: `${EMBEDDINGS}.word_embeddings`, ids: 'inputIds' }],
    dropouts: dropoutsOf(config),
    encode: (scope, inputs) => tokenMean(every(scope, inputs), batchInput(inputs, 'attentionMask')),
    head: encoderHead('deberta-v2', heads, task),
  };
}

function settingsOf(config: DebertaV2Config): Record<string, number> {
  const { numAttentionHeads, layerNormEps, positionBuckets, maxRelativePositions } = config;
  const terms = { contentToPosition: +config.contentToPosition, positionToContent: +config.positionToContent };
  return {
    numAttentionHeads,
    layerNormEps,
    positionBuckets: positionBuckets ?? 0,
    maxRelativePositions,
    ...terms,
    ...ownActivation(config.hiddenAct, 'gelu'),
  };
}

function dropoutsOf(config: DebertaV2Config): Record<string, number> {
  const { hidden } = config.dropout;
  const ofLayers = blocksOf(config).map((block) => ({ [positionDropout(block)]: hidden, ...blockDropouts([block]) }));
  return Object.assign({ [`${EMBEDDINGS}.dropout`]: hidden }, ...ofLayers) as Record<string, number>;
}

/** The place of the dropout of relative positions: each layer draws one mask for the whole table. */
function positionDropout({ path }: Block): string {
  return `${path}.attention.self.pos_dropout`;
}

function embeddingSites(config: DebertaV2Config): Site[] {
  const { vocabSize, hiddenSize, maxPositionEmbeddings, typeVocabSize } = config;
  const positions = embeddingSite(`${EMBEDDINGS}.position_embeddings`, maxPositionEmbeddings, hiddenSize);
  const types = embeddingSite(`${EMBEDDINGS}.token_type_embeddings`, typeVocabSize, hiddenSize);
  return [
    embeddingSite(`${EMBEDDINGS}.word_embeddings`, vocabSize, hiddenSize),
    ...(config.positionBiasedInput ? [positions] : []),
    ...(typeVocabSize > 0 ? [types] : []),
    layerNormSite(`${EMBEDDINGS}.LayerNorm`, hiddenSize),
    shared(embeddingSite(RELATIVE, 2 * relativeSpan(config), hiddenSize)),
    ...(config.normalisedPositions ? [shared(layerNormSite(RELATIVE_NORM, hiddenSize))] : []),
  ];
}

function blocksOf(config: DebertaV2Config): Block[] {
  const terms = 1 + Number(config.contentToPosition) + Number(config.positionToContent);
  const scale = 1 / Math.sqrt((terms * config.hiddenSize) / config.numAttentionHeads);
  return encoderBlocks({ ...config, root: 'deberta', layers: 'encoder.layer', names }).map((block) => ({
    ...block,
    attention: { ...block.attention, scale },
  }));
}

/** The modules of a layer, including the projections of positions if they do not share those of the content. */
function sitesOf(config: DebertaV2Config, block: Block): Site[] {
  const { hiddenSize, shareAttKey } = config;
  const { layer } = block;
  const ofPositions = positionPaths(config, block).flatMap((path) => path ?? []);
  const own = shareAttKey ? [] : ofPositions.map((path) => linearSite(path, hiddenSize, hiddenSize, { layer }));
  const [query, key, value, ...others] = blockSites(block) as [Site, Site, Site, ...Site[]];
  return [query, key, value, ...own, ...others].map((site) => (ofPositions.includes(site.path) ? shared(site) : site));
}

/** Marks a module whose input is the same for all rows of a batch: it reads positions. */
function shared(site: Site): Site {
  return { ...site, readsShared: true };
}

/** The paths of the key and query projections of positions, each undefined if its term is not used. */
function positionPaths(config: DebertaV2Config, { path }: Block): (string | undefined)[] {
  const [key, query] = config.shareAttKey ? [names.key, names.query] : POSITION_PROJECTIONS;
  return [config.contentToPosition && key, config.positionToContent && query].map((name) =>
    name ? `${path}.${name}` : undefined,
  );
}

const POSITION_PROJECTIONS = ['attention.self.pos_key_proj', 'attention.self.pos_query_proj'] as const;

/**
 * Computes the last layer only for the tokens that `read` selects. They attend to all tokens.
 * inputIds and tokenTypeIds [B, S] int32, attentionMask [B, S] float32 -> [B, Q, H]
 */
function lastHidden(config: DebertaV2Config, scope: Scope, inputs: Tensors, read: Reader): Tensor {
  const mask = pairBias(batchInput(inputs, 'attentionMask')); // [B, S] -> [B, 1, S, S]
  const x = embed(config, scope, inputs); // [B, S, H]
  const [tokens, most] = [x.shape[1] as number, config.maxPositionEmbeddings];
  const all = positionRows(config, scope, distances(tokens, tokens, most, config));
  return runBlocks(blocksOf(config), scope, x, (block, isLast, states) => {
    if (!isLast) return { bias: (q, k) => pairScores(config, scope, block, { q, k, mask, positions: all }) };
    const queries = read(states); // [B, Q, H], once for the attention and the sum
    const few = positionRows(config, scope, distances(tokens, queries.shape[1] as number, most, config));
    const own = { mask: tf.expandDims(read(tf.squeeze(mask, [1])), 1), positions: few }; // [B, 1, Q, S]
    return { read: () => queries, bias: (q, k) => pairScores(config, scope, block, { q, k, ...own }) };
  });
}

/**
 * No token attends to padding. Padding attends to all tokens equally: the first token of a row may be padding.
 * [B, S] -> [B, 1, S, S]
 */
function pairBias(mask: Tensor): Tensor {
  const [batch, tokens] = mask.shape as [number, number];
  const pairs = tf.mul(tf.reshape(mask, [batch, 1, tokens, 1]), tf.reshape(mask, [batch, 1, 1, tokens]));
  return tf.mul(tf.sub(1, pairs), -1e30); // low enough to hide any score
}

/**
 * Sums the embeddings of words, positions and token types (if the model has them). Padding gets zeros.
 * [B, S] -> [B, S, H]
 */
function embed(config: DebertaV2Config, scope: Scope, inputs: Tensors): Tensor {
  const ids = batchInput(inputs, 'inputIds');
  checkTokens('deberta-v2', ids, config.maxPositionEmbeddings);
  const tokens = ids.shape[1] as number;
  let x = scope.embedding(`${EMBEDDINGS}.word_embeddings`, ids); // [B, S, H]
  if (config.positionBiasedInput) {
    x = tf.add(x, scope.embedding(`${EMBEDDINGS}.position_embeddings`, positionIds(tokens))); // [1, S, H]
  }
  if (config.typeVocabSize > 0) {
    const types = inputs.tokenTypeIds ?? tf.zeros([1, tokens], 'int32');
    x = tf.add(x, scope.embedding(`${EMBEDDINGS}.token_type_embeddings`, types)); // [B or 1, S, H]
  }
  const mask = tf.expandDims(batchInput(inputs, 'attentionMask'), 2); // [B, S, 1]
  const shown = tf.mul(scope.layerNorm(`${EMBEDDINGS}.LayerNorm`, x, config.layerNormEps), mask);
  return scope.dropout(`${EMBEDDINGS}.dropout`, shown);
}

/** The rows of relative positions that layers read, [R, H], and the distances of those rows. */
interface PositionRows {
  readonly toKeys: Tensor;
  readonly toQueries: Tensor;
  readonly of: Distances;
}

function positionRows(config: DebertaV2Config, scope: Scope, of: Distances): PositionRows {
  const rows = (ids: Tensor): Tensor => {
    const table = scope.embedding(RELATIVE, ids); // [R] -> [R, H]
    return config.normalisedPositions ? scope.layerNorm(RELATIVE_NORM, table, config.layerNormEps) : table;
  };
  return { toKeys: rows(of.toKeys), toQueries: rows(of.toQueries), of };
}

/** Applies a layer's dropout to the table that the rows are from: distances that share a row share its mask. */
function droppedRows(config: DebertaV2Config, scope: Scope, layer: Block, positions: PositionRows) {
  const ones = tf.ones([2 * relativeSpan(config), config.hiddenSize]);
  const mask = scope.dropout(positionDropout(layer), ones); // of the table
  const { toKeys, toQueries, of } = positions;
  if (mask === ones) return positions;
  return {
    toKeys: tf.mul(toKeys, tf.gather(mask, of.toKeys)),
    toQueries: tf.mul(toQueries, tf.gather(mask, of.toQueries)),
  };
}

/** The inputs of a layer's bias: queries [B, Q, H], keys [B, S, H], the mask [B, 1, Q, S] and positions. */
interface Pairs {
  readonly q: Tensor;
  readonly k: Tensor;
  readonly mask: Tensor;
  readonly positions: PositionRows;
}

/** Returns the mask plus the terms of relative positions, [B, heads, Q, S]. */
function pairScores(config: DebertaV2Config, scope: Scope, block: Block, { q, k, mask, positions }: Pairs): Tensor {
  const { heads, scale = 1 } = block.attention;
  const [toKeys, toQueries] = positionPaths(config, block);
  const rows = droppedRows(config, scope, block, positions);
  let bias = mask;
  if (toKeys !== undefined) {
    const p = tf.mul(scope.linear(toKeys, rows.toKeys), scale); // [R, H]
    bias = tf.add(contentToPosition(q, p, heads, k.shape[1] as number), bias); // [B, heads, Q, S]
  }
  if (toQueries !== undefined) {
    const p = tf.mul(scope.linear(toQueries, rows.toQueries), scale); // [R, H]
    bias = tf.add(positionToContent(k, p, heads), bias); // [B, heads, Q, S]
  }
  return bias;
}

/** DeBERTa v2 and v3 as saved by transformers: `DebertaV2Model`, `DebertaV2ForSequenceClassification` and others. */
export const debertaV2Type: ModelType = {
  name: 'deberta-v2',
  savedBy: 'DebertaV2Model or DebertaV2ForSequenceClassification',
  prefix: 'deberta.',
  ignoredSettings: ['conv_act', 'conv_groups', 'legacy'], // of the convolution, which is rejected, and of the masked-word head
  unusedWeights: ['embeddings.position_embeddings.weight'], // saved even if `position_biased_input` is false
  architecture: (config, task) => debertaV2(settings(config), task),
};

/** Missing settings have the defaults of transformers, except that config.json must ask for relative attention. */
function settings(config: ConfigFile) {
  assertSetting(config, 'conv_kernel_size', 0);
  assertSetting(config, 'relative_attention', true, false);
  const hiddenSize = positiveInteger(config, 'hidden_size', 1536);
  for (const width of ['embedding_size', 'pooler_hidden_size']) assertSetting(config, width, hiddenSize);
  const numAttentionHeads = positiveInteger(config, 'num_attention_heads', 24, { divides: hiddenSize });
  assertSetting(config, 'attention_head_size', hiddenSize / numAttentionHeads);
  const maxPositionEmbeddings = positiveInteger(config, 'max_position_embeddings', 512);
  const terms = attentionTerms(config);
  const dropout = encoderDropout(config, { ...KEYS, headDropout: KEYS.hiddenDropout });
  return {
    vocabSize: positiveInteger(config, 'vocab_size', 128_100),
    hiddenSize,
    numHiddenLayers: positiveInteger(config, 'num_hidden_layers', 24, { most: 1000 }),
    numAttentionHeads,
    intermediateSize: positiveInteger(config, 'intermediate_size', 6144),
    layerNormEps: positiveNumber(config, 'layer_norm_eps', 1e-7),
    hiddenAct: activation(config, 'hidden_act', 'gelu'),
    poolerHiddenAct: activation(config, 'pooler_hidden_act', 'gelu'), // of the text head
    dropout,
    poolerDropout: dropoutRate(config, 'pooler_dropout', 0), // of the text head, before its dense module
    clsDropout: dropoutRate(config, 'cls_dropout', dropout.hidden), // and before its last
    maxPositionEmbeddings,
    typeVocabSize: nonNegativeInteger(config, 'type_vocab_size', 0), // 0: no token types
    positionBiasedInput: boolean(config, 'position_biased_input', true), // adds absolute positions to the word embeddings
    contentToPosition: terms.includes('c2p'), // whether b has this term
    positionToContent: terms.includes('p2c'), // and this one
    shareAttKey: boolean(config, 'share_att_key', false), // whether positions use the content's projections, not their own
    // Whether the table of relative positions goes through a layer norm.
    normalisedPositions: parts(config, 'norm_rel_ebd', 'none').includes('layer_norm'),
    ...distancesOf(config, maxPositionEmbeddings),
  };
}

/** How distances map to rows. A number below 1 counts as not given. */
function distancesOf(config: ConfigFile, maxPositionEmbeddings: number): RelativeConfig {
  const given = (name: string, least: number): number | null => {
    const value = setting(config, name);
    return typeof value === 'number' && value < 1 ? null : positiveInteger(config, name, least);
  };
  const maxRelativePositions = given('max_relative_positions', maxPositionEmbeddings) ?? maxPositionEmbeddings;
  const isGiven = setting(config, 'position_buckets') !== undefined;
  const positionBuckets = isGiven ? given('position_buckets', 1) : null;
  // Half of the buckets hold one distance each; the other half share the distances up to the last.
  const most = 2 * (maxRelativePositions - 1) - 1;
  if (positionBuckets === null || (positionBuckets >= 2 && positionBuckets <= most)) {
    return { positionBuckets, maxRelativePositions };
  }
  throw fileError(
    config.file,
    `'position_buckets' must be from 2 to ${most} for distances below ${maxRelativePositions}, got ${positionBuckets}`,
  );
}

/** Returns the terms of the attention other than content to content. */
function attentionTerms(config: ConfigFile): readonly string[] {
  const terms = parts(config, 'pos_att_type', '');
  const unknown = terms.find((term) => term !== 'c2p' && term !== 'p2c');
  if (unknown === undefined) return terms;
  throw fileError(
    config.file,
    `'pos_att_type' must be made of "c2p" and "p2c", got ${shown(unknown)}, which is not supported`,
  );
}

/** Returns a setting that is a list of words, or words separated by `|`. */
function parts(config: ConfigFile, name: string, fallback: string): string[] {
  const value = setting(config, name) ?? fallback;
  const words: unknown[] =
    typeof value === 'string' ? value.toLowerCase().split('|') : Array.isArray(value) ? value : [];
  const texts = words.flatMap((word) => (typeof word === 'string' ? [word.trim()] : []));
  const isMadeOfWords = typeof value === 'string' || (Array.isArray(value) && texts.length === words.length);
  if (isMadeOfWords) return texts.filter((word) => word !== '');
  throw fileError(config.file, `'${name}' must be made of words, got ${shown(value)}`);
}
