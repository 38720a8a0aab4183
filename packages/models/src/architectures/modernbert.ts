/**
 * ModernBERT (Warner et al., 2024): words, then pre-norm transformer layers with rotary positions, some with full
 * attention and some with a sliding window, and the heads of transformers. Module paths are those of
 * ModernBertForSequenceClassification and ModernBertForTokenClassification.
 *
 *   x0 = LN(w)                                     w: rows of the word embedding table
 *   a  = x + Attention(LN(x)) W_o                  softmax(R q (R k)^T / sqrt(H / heads)) v; no LN in the first layer
 *   x' = a + (act(m W_1) * m W_2) W_f              m = LN(a); W_1 and W_2 are the halves of mlp.Wi
 *   h  = LN(x_L)
 *   of a text   LN(act(p W_d)) W_c                 p: h[first token] or the mean of h; W_d, LN: head.dense, head.norm
 *   of tokens   LN(act(h W_d)) W_c
 *   encode      mean over tokens of h
 *
 * R rotates by position, with different angles for the two kinds of layers. A sliding layer attends to tokens at most
 * half a window away. Settings decide which W have a bias and whether LN has one.
 */
import type { Tensors } from '@peftjs/core/method';
import { embeddingSite, linearSite, type Scope, type SitePosition, type Task } from '@peftjs/core/model';
import { activations, maskBias, rotary, type RotaryOptions } from '@peftjs/core/nn';
import * as tf from '@tensorflow/tfjs-core';
import type { Tensor } from '@tensorflow/tfjs-core';
import {
  batchInput,
  headFor,
  noHead,
  onFeatures,
  type Architecture,
  type Features,
  type Head,
} from '../architecture.js';
import { blockDropouts, blockSites, normed, normSite, runBlocks, type Block, type NormKind } from '../block.js';
import { fileError, shown } from '../json.js';
import { checkTokens, everyToken, firstToken, onlyToken, tokenMean, type Reader } from '../reading.js';
import {
  activation,
  boolean,
  dropoutRate,
  ownActivation,
  positiveInteger,
  positiveNumber,
  assertSetting,
  section,
  setting,
  type ConfigFile,
  type ModelType,
} from '../transformers/config.js';
import { ropeAngles } from '../rope.js';
import { layerTypes, type LayerType } from './decoder-settings.js';

/** The settings of config.json that the network depends on, with their names in camel case. */
type ModernBertConfig = ReturnType<typeof settings>;

const WORDS = 'model.embeddings.tok_embeddings';
const FIRST_NORM = 'model.embeddings.norm';
const EMBEDDING_DROPOUT = 'model.embeddings.drop';
const FINAL_NORM = 'model.final_norm';

/** Builds the network for a task. @throws UnsupportedError when it has no head for the task. */
function modernbert(config: ModernBertConfig, task: Task): Architecture {
  const { vocabSize, hiddenSize } = config;
  const [norm, layers] = [normOf(config), blocksOf(config)];
  const every: Features = (scope, inputs) => lastHidden(config, scope, inputs, everyToken);
  const mean: Features = (scope, inputs) => tokenMean(every(scope, inputs), batchInput(inputs, 'attentionMask'));
  const first: Features = (scope, inputs) => onlyToken(lastHidden(config, scope, inputs, firstToken));
  const heads: Partial<Record<Task, Head>> = {
    'sequence-classification': predictionHead(config, config.classifierPooling === 'cls' ? first : mean),
    'token-classification': predictionHead(config, every),
    'feature-extraction': noHead(every),
  };
  return {
    name: 'modernbert',
    maxTokens: config.maxPositionEmbeddings,
    settings: settingsOf(config),
    sites: [
      embeddingSite(WORDS, vocabSize, hiddenSize),
      normSite(norm, FIRST_NORM, hiddenSize),
      ...layers.flatMap(blockSites),
      normSite(norm, FINAL_NORM, hiddenSize),
    ],
    encodeOnly: [],
    defaultTargetModules: ['Wqkv'],
    lookups: [{ site: WORDS, ids: 'inputIds' }],
    dropouts: { [EMBEDDING_DROPOUT]: config.dropout.embedding, ...blockDropouts(layers) },
    encode: mean,
    head: headFor('modernbert', heads, task),
  };
}

function settingsOf(config: ModernBertConfig): Record<string, number> {
  const { numAttentionHeads, normEps, localAttention, ropeTheta, layerTypes, hiddenActivation, classifierPooling } =
    config;
  const full = layerTypes.flatMap((type, layer) => (type === 'full_attention' ? [[`full.${layer}`, 1] as const] : []));
  return {
    numAttentionHeads,
    normEps,
    localAttention,
    fullTheta: ropeTheta.full_attention,
    slidingTheta: ropeTheta.sliding_attention,
    ...Object.fromEntries(full),
    ...(classifierPooling === 'mean' && { meanPooling: 1 }),
    ...ownActivation(hiddenActivation, 'gelu'),
  };
}

function normOf({ normEps, normBias }: ModernBertConfig): NormKind {
  return { kind: 'layer', epsilon: normEps, hasBias: normBias };
}

function blocksOf(config: ModernBertConfig): readonly (Block & { readonly type: LayerType })[] {
  const { hiddenSize, attentionBias, dropout } = config;
  return config.layerTypes.map((type, layer) => ({
    type,
    path: `model.layers.${layer}`,
    layer,
    width: hiddenSize,
    norm: normOf(config),
    attention: {
      before: layer === 0 ? undefined : 'attn_norm',
      qkv: 'attn.Wqkv',
      hasBias: attentionBias,
      heads: config.numAttentionHeads,
      weightsDropout: ['attn.attention_dropout', dropout.attention],
      output: 'attn.Wo',
      outputBias: attentionBias,
      dropout: ['attn.out_drop', dropout.attention],
    },
    feedForward: {
      before: 'mlp_norm',
      inner: 'mlp.Wi',
      isFused: true,
      width: config.intermediateSize,
      act: config.hiddenActivation,
      innerDropout: ['mlp.drop', dropout.mlp],
      outer: 'mlp.Wo',
      hasBias: config.mlpBias,
    },
  }));
}

/**
 * The head of transformers on features [.., H]: a dense module and a norm, shared with the masked-word head, then a
 * linear module. As in PEFT, the first two stay frozen. They are trained only if the checkpoint lacks them.
 */
function predictionHead(config: ModernBertConfig, features: Features): Head {
  const { hiddenSize, classifierBias, classifierActivation, isHeadThere } = config;
  const norm = normOf(config);
  const dense = (scope: Scope, x: Tensor): Tensor =>
    normed(norm, scope, 'head.norm', activations[classifierActivation](scope.linear('head.dense', x)));
  const logits = (scope: Scope, x: Tensor): Tensor => scope.linear('classifier', scope.dropout('drop', x));
  const position: SitePosition = { role: isHeadThere ? 'other' : 'head' };
  return {
    trained: isHeadThere ? ['classifier'] : ['head', 'classifier'],
    sites: (outputs) => [
      { ...linearSite('head.dense', hiddenSize, hiddenSize, position), hasBias: classifierBias },
      normSite(norm, 'head.norm', hiddenSize, position),
      linearSite('classifier', hiddenSize, outputs, { role: 'head' }),
    ],
    dropouts: { drop: config.dropout.classifier },
    ...(isHeadThere
      ? onFeatures((scope, inputs) => dense(scope, features(scope, inputs)), logits)
      : onFeatures(features, (scope, x) => logits(scope, dense(scope, x)))),
  };
}

/**
 * Computes the last layer and the norm after it for the tokens that `read` selects.
 * inputIds [B, S] int32, attentionMask [B, S] float32 -> [B, Q, H]
 */
function lastHidden(config: ModernBertConfig, scope: Scope, inputs: Tensors, read: Reader): Tensor {
  const norm = normOf(config);
  const ids = batchInput(inputs, 'inputIds');
  checkTokens('modernbert', ids, config.maxPositionEmbeddings);
  const kinds = kindsOf(config, batchInput(inputs, 'attentionMask'));
  const words = normed(norm, scope, FIRST_NORM, scope.embedding(WORDS, ids)); // [B, S, H]
  const x = scope.dropout(EMBEDDING_DROPOUT, words);
  const hidden = runBlocks(blocksOf(config), scope, x, ({ type }, isLast, input) => {
    const { angles, bias } = kinds[type];
    const own = isLast ? read : everyToken;
    const rows = bias.shape[2] === 1 ? bias : tf.expandDims(own(tf.squeeze(bias, [1])), 1); // [B, 1, Q or 1, S]
    return {
      options: { maskBias: rows, maxTokens: config.maxPositionEmbeddings },
      // Queries are read after their rotation, which goes by the places of all tokens.
      read: (states) => (states === input ? own(states) : states),
      rotate: (states, of) => (of === 'queries' ? own : everyToken)(rotary(states, angles)),
    };
  });
  return normed(norm, scope, FINAL_NORM, hidden);
}

/** What differs between the two kinds of layers. */
interface LayerKind {
  /** The angles of rotation, [S, size / 2]. */
  readonly angles: RotaryOptions;
  /** Added to the scores: [B, 1, 1, S] with full attention, [B, 1, S, S] with a window. */
  readonly bias: Tensor;
}

/** mask [B, S] */
function kindsOf(
  { hiddenSize, numAttentionHeads, ropeTheta, localAttention }: ModernBertConfig,
  mask: Tensor,
): Record<LayerType, LayerKind> {
  const [batch, tokens] = mask.shape as [number, number];
  const text = { reach: tokens, length: () => tf.scalar(tokens) };
  const angles = (theta: number): RotaryOptions =>
    ropeAngles({ theta, scaling: { kind: 'default' } }, hiddenSize / numAttentionHeads, text);
  const positions = tf.range(0, tokens, 1, 'float32'); // [S]
  const distances = tf.abs(tf.sub(positions, tf.expandDims(positions, 1))); // [S, S]
  const isNear = tf.cast(tf.lessEqual(distances, Math.floor(localAttention / 2)), 'float32');
  const seen = tf.mul(isNear, tf.reshape(mask, [batch, 1, 1, tokens])); // [B, 1, S, S]
  return {
    full_attention: { angles: angles(ropeTheta.full_attention), bias: maskBias(mask) },
    // Low enough to hide any score: a token with no token nearby attends to all equally.
    sliding_attention: { angles: angles(ropeTheta.sliding_attention), bias: tf.mul(tf.sub(1, seen), -1e30) },
  };
}

/** ModernBERT as saved by transformers: `ModernBertModel`, `ModernBertForMaskedLM` and others. */
export const modernbertType: ModelType = {
  name: 'modernbert',
  savedBy: 'ModernBertModel or ModernBertForSequenceClassification',
  prefix: 'model.',
  ignoredSettings: [
    ...['decoder_bias', 'sparse_prediction', 'sparse_pred_ignore_index'], // of the masked-word head
    ...['deterministic_flash_attn', 'reference_compile', 'repad_logits_with_grad'], // implementation choices
    ...['initializer_cutoff_factor', 'layer_norm_eps', 'position_embedding_type'],
  ],
  architecture: (config, task) => modernbert(settings(config, task), task),
};

/** Missing settings default to those of ModernBERT-base, as in transformers. */
function settings(config: ConfigFile, task: Task) {
  const hiddenSize = positiveInteger(config, 'hidden_size', 768);
  const numAttentionHeads = positiveInteger(config, 'num_attention_heads', 12, { divides: hiddenSize });
  if ((hiddenSize / numAttentionHeads) % 2 !== 0) {
    throw fileError(config.file, `'hidden_size' must be even per head, got ${hiddenSize}`);
  }
  const numHiddenLayers = positiveInteger(config, 'num_hidden_layers', 22, { most: 1000 });
  const fullEvery = positiveInteger(config, 'global_attn_every_n_layers', 3);
  return {
    vocabSize: positiveInteger(config, 'vocab_size', 50_368),
    hiddenSize,
    intermediateSize: positiveInteger(config, 'intermediate_size', 1152),
    numAttentionHeads,
    maxPositionEmbeddings: positiveInteger(config, 'max_position_embeddings', 8192),
    normEps: positiveNumber(config, 'norm_eps', 1e-5),
    normBias: boolean(config, 'norm_bias', false),
    attentionBias: boolean(config, 'attention_bias', false),
    mlpBias: boolean(config, 'mlp_bias', false),
    hiddenActivation: activation(config, 'hidden_activation', 'gelu'),
    layerTypes: layerTypes(config, { numHiddenLayers }, (layer) =>
      layer % fullEvery ? 'sliding_attention' : 'full_attention',
    ),
    localAttention: positiveInteger(config, 'local_attention', 128), // the width of the sliding window, in tokens
    ropeTheta: ropeThetas(config),
    dropout: {
      embedding: dropoutRate(config, 'embedding_dropout', 0),
      attention: dropoutRate(config, 'attention_dropout', 0),
      mlp: dropoutRate(config, 'mlp_dropout', 0),
      classifier: dropoutRate(config, 'classifier_dropout', 0),
    },
    classifierPooling: classifierPooling(config),
    classifierBias: boolean(config, 'classifier_bias', false),
    classifierActivation: activation(config, 'classifier_activation', 'gelu'),
    isHeadThere: isHeadThere(config, task), // if so, the dense layer and norm of the head stay frozen
  };
}

/** Decides by the class that saved the checkpoint. */
function isHeadThere(config: ConfigFile, task: Task): boolean {
  const classes = setting(config, 'architectures');
  const ofTask = task === 'token-classification' ? 'TokenClassification' : 'SequenceClassification';
  return Array.isArray(classes) && ['MaskedLM', ofTask].some((name) => classes[0] === `ModernBertFor${name}`);
}

/**
 * Reads the current form (`rope_parameters` per layer type) or the older one (`global_rope_theta`, `local_rope_theta`).
 */
function ropeThetas(config: ConfigFile): Record<LayerType, number> {
  assertSetting(config, 'rope_scaling', undefined);
  const given = section(config, 'rope_parameters');
  const theta = (type: LayerType, older: string, usual: number): number => {
    const rope = section(given, type);
    assertSetting(rope, 'rope_type', 'default');
    return positiveNumber(rope, 'rope_theta', positiveNumber(config, older, usual));
  };
  return {
    full_attention: theta('full_attention', 'global_rope_theta', 160_000),
    sliding_attention: theta('sliding_attention', 'local_rope_theta', 10_000),
  };
}

function classifierPooling(config: ConfigFile): 'cls' | 'mean' {
  const pooling = setting(config, 'classifier_pooling') ?? 'cls';
  if (pooling === 'cls' || pooling === 'mean') return pooling;
  throw fileError(config.file, `'classifier_pooling' must be "cls" or "mean", got ${shown(pooling)}`);
}
