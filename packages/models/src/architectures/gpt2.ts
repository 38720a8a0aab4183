/**
 * GPT-2 (Radford et al., 2019): words and positions, then pre-norm transformer layers with causal attention, and the
 * heads of transformers. Module paths are those of GPT2ForSequenceClassification, GPT2ForTokenClassification and
 * GPT2LMHeadModel.
 *
 *   x0 = w + p
 *   a  = x + Attention(LN(x)) W_o     softmax(q k^T / sqrt(H / heads)) v in each head; q, k, v = LN(x) W_qkv
 *   x' = a + act(LN(a) W_i) W_f       act: gelu by its tanh approximation, unless config.json names another
 *   h  = LN(x_L)
 *   of a text       h[last token that is not padding] W_s
 *   of tokens       h W_c
 *   the next token  h E^T             E: the word embedding table
 *   encode          h[last token]
 *
 * Every W except W_s has a bias.
 */
import type { Site, Tensors } from '@peftjs/core/method';
import { embeddingSite, layerNormSite, linearSite, type Scope, type SitePosition, type Task } from '@peftjs/core/model';
import { activations, attention } from '@peftjs/core/nn';
import * as tf from '@tensorflow/tfjs-core';
import type { Tensor } from '@tensorflow/tfjs-core';
import { batchInput, layersDropouts, type Architecture, type Network } from '../architecture.js';
import type { Context } from '../context.js';
import { decoder } from '../decoder.js';
import { tokenDropout } from './decoder-settings.js';
import { checkTokens, everyToken, positionIds, type LastToken, type Reader } from '../reading.js';
import {
  activation,
  boolean,
  dropoutRate,
  ownActivation,
  positiveInteger,
  positiveNumber,
  assertSetting,
  padTokenIdOf,
  type ConfigFile,
  type ModelType,
} from '../transformers/config.js';

/** The settings of config.json that the network depends on, with their names in camel case. */
type Gpt2Config = ReturnType<typeof settings>;

const WORDS = 'transformer.wte';
const POSITIONS = 'transformer.wpe';
const FINAL_NORM = 'transformer.ln_f';
const EMBEDDING_DROPOUT = 'transformer.drop';

/** Builds the network for a task. */
function gpt2(config: Gpt2Config, task: Task): Architecture {
  const { nEmbd, nHead, nLayer, vocabSize, tieWordEmbeddings, padTokenId } = config;
  return decoder(
    network(config),
    {
      width: nEmbd,
      hidden: (...pass) => hiddenStates(config, ...pass),
      layers: nLayer,
      keyHeads: nHead,
      headDim: nEmbd / nHead,
      ofTokens: 'classifier',
      tokenDropout: config.dropout.tokens,
      table: WORDS,
      words: vocabSize,
      tied: tieWordEmbeddings,
      padTokenId,
    },
    task,
  );
}

function network(config: Gpt2Config): Omit<Network, 'encode'> {
  const { vocabSize, nPositions, nEmbd, nLayer, nHead, layerNormEpsilon } = config;
  return {
    name: 'gpt2',
    maxTokens: nPositions,
    settings: { nHead, layerNormEpsilon, ...ownActivation(config.activationFunction, 'gelu_new') },
    sites: [
      embeddingSite(WORDS, vocabSize, nEmbd),
      embeddingSite(POSITIONS, nPositions, nEmbd),
      ...Array.from({ length: nLayer }, (_, layer) => layerSites(config, layer)).flat(),
      layerNormSite(FINAL_NORM, nEmbd),
    ],
    encodeOnly: [],
    defaultTargetModules: ['c_attn'],
    lookups: [{ site: WORDS, ids: 'inputIds' }],
    dropouts: dropoutsOf(config),
  };
}

function dropoutsOf({ nLayer, dropout }: Gpt2Config): Record<string, number> {
  return {
    [EMBEDDING_DROPOUT]: dropout.embedding,
    ...layersDropouts(nLayer, (layer) => ({
      [`${layerPath(layer)}.attn.attn_dropout`]: dropout.attention,
      [`${layerPath(layer)}.attn.resid_dropout`]: dropout.residual,
      [`${layerPath(layer)}.mlp.dropout`]: dropout.residual,
    })),
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

function conv1d(path: string, inFeatures: number, outFeatures: number, position: SitePosition): Site {
  return { ...linearSite(path, inFeatures, outFeatures, position), fanInFanOut: true };
}

function layerPath(layer: number): string {
  return `transformer.h.${layer}`;
}

/** inputIds [B, S] int32 -> [B, S, H], or [B, 1, H] with `only` */
function hiddenStates(config: Gpt2Config, scope: Scope, inputs: Tensors, context: Context, only?: LastToken): Tensor {
  const ids = batchInput(inputs, 'inputIds');
  checkTokens('gpt2', ids, config.nPositions);
  const positions = context.positions ?? positionIds(ids.shape[1] as number);
  const words = tf.add(scope.embedding(WORDS, ids), scope.embedding(POSITIONS, positions)); // [B, S, H] + [1 or B, S, H]
  let x = scope.dropout(EMBEDDING_DROPOUT, words);
  for (let layer = 0; layer < config.nLayer; layer++) {
    const read = layer === config.nLayer - 1 ? only?.read : undefined;
    x = transformerLayer(config, scope, layer, { x, context, read });
  }
  return scope.layerNorm(FINAL_NORM, x, config.layerNormEpsilon);
}

/** The inputs of a layer: all tokens [B, S, H], their attention context, and the token it is computed for. */
interface LayerInputs {
  readonly x: Tensor;
  readonly context: Context;
  /** Selects the last token of each row. Default: the layer is computed for all tokens. */
  readonly read?: Reader | undefined;
}

/** x [B, S, H] -> [B, Q, H] */
function transformerLayer(
  { nEmbd, nHead, nPositions, layerNormEpsilon, activationFunction }: Gpt2Config,
  scope: Scope,
  layer: number,
  { x, context, read }: LayerInputs,
): Tensor {
  const path = layerPath(layer);
  const readBy = read ?? everyToken;
  const qkv = scope.linear(`${path}.attn.c_attn`, scope.layerNorm(`${path}.ln_1`, x, layerNormEpsilon)); // [B, S, 3 H]
  const [q, k, v] = tf.split(qkv, [nEmbd, nEmbd, nEmbd], 2) as [Tensor, Tensor, Tensor];
  const { keys, values } = context.attended(layer, { keys: k, values: v }); // [B, keys, H]
  const hidden = read ? { maskBias: context.lastBias } : { maskBias: context.bias, ...context.hiding };
  const dropped = (name: string, states: Tensor): Tensor => scope.dropout(`${path}.${name}`, states);
  const attended = attention(readBy(q), keys, values, {
    heads: nHead,
    ...hidden,
    maxTokens: nPositions,
    dropout: (weights) => dropped('attn.attn_dropout', weights),
  }); // [B, Q, H]
  const a = tf.add(readBy(x), dropped('attn.resid_dropout', scope.linear(`${path}.attn.c_proj`, attended)));
  const normed = scope.layerNorm(`${path}.ln_2`, a, layerNormEpsilon);
  const inner = activations[activationFunction](scope.linear(`${path}.mlp.c_fc`, normed)); // [B, Q, inner]
  return tf.add(a, dropped('mlp.dropout', scope.linear(`${path}.mlp.c_proj`, inner))); // [B, Q, H]
}

/** Settings of GPT2DoubleHeadsModel's summary head, which is not supported. */
const SUMMARY = [
  'summary_activation',
  'summary_first_dropout',
  'summary_proj_to_labels',
  'summary_type',
  'summary_use_proj',
];

/** GPT-2 as saved by transformers: `GPT2Model`, `GPT2LMHeadModel`, `GPT2ForSequenceClassification` and others. */
export const gpt2Type: ModelType = {
  name: 'gpt2',
  savedBy: 'GPT2Model, GPT2LMHeadModel or GPT2ForSequenceClassification',
  prefix: 'transformer.',
  ignoredSettings: ['n_ctx', 'n_special', 'predict_special_tokens', 'reorder_and_upcast_attn', ...SUMMARY],
  unusedWeights: ['attn.bias', 'attn.masked_bias'],
  architecture: (config, task) => gpt2(settings(config), task),
};

/** Missing settings default to those of gpt2, as in transformers. */
function settings(config: ConfigFile) {
  assertSetting(config, 'scale_attn_weights', true);
  assertSetting(config, 'scale_attn_by_inverse_layer_idx', false);
  assertSetting(config, 'add_cross_attention', false);
  const nEmbd = positiveInteger(config, 'n_embd', 768);
  const vocabSize = positiveInteger(config, 'vocab_size', 50_257);
  return {
    vocabSize,
    nPositions: positiveInteger(config, 'n_positions', 1024),
    nEmbd,
    nLayer: positiveInteger(config, 'n_layer', 12, { most: 1000 }),
    nHead: positiveInteger(config, 'n_head', 12, { divides: nEmbd }),
    nInner: positiveInteger(config, 'n_inner', 4 * nEmbd),
    layerNormEpsilon: positiveNumber(config, 'layer_norm_epsilon', 1e-5),
    activationFunction: activation(config, 'activation_function', 'gelu_new'),
    tieWordEmbeddings: boolean(config, 'tie_word_embeddings', true),
    padTokenId: padTokenIdOf(config, vocabSize),
    dropout: {
      embedding: dropoutRate(config, 'embd_pdrop', 0.1),
      attention: dropoutRate(config, 'attn_pdrop', 0.1),
      residual: dropoutRate(config, 'resid_pdrop', 0.1),
      tokens: tokenDropout(config),
    },
  };
}
