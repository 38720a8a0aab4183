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
import type { Task } from '@peftjs/core/model';
import type { Architecture } from '../architecture.js';
import type { Block } from '../block.js';
import { decoder } from '../decoder.js';
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
import { tokenDropout } from './decoder-settings.js';

/** The settings of config.json that the network depends on, with their names in camel case. */
type Gpt2Config = ReturnType<typeof settings>;

/** Builds the network for a task. */
function gpt2(config: Gpt2Config, task: Task): Architecture {
  const { nPositions, nHead, nLayer, vocabSize, layerNormEpsilon, activationFunction, dropout } = config;
  return decoder(
    {
      name: 'gpt2',
      maxTokens: nPositions,
      settings: { nHead, layerNormEpsilon, ...ownActivation(activationFunction, 'gelu_new') },
      table: 'transformer.wte',
      words: vocabSize,
      positions: 'transformer.wpe',
      dropout: ['transformer.drop', dropout.embedding],
      layers: Array.from({ length: nLayer }, (_, layer) => blockOf(config, layer)),
      finalNorm: 'transformer.ln_f',
      defaultTargetModules: ['c_attn'],
      ofTokens: 'classifier',
      tokenDropout: dropout.tokens,
      tied: config.tieWordEmbeddings,
      padTokenId: config.padTokenId,
    },
    task,
  );
}

function blockOf({ nEmbd, nInner, dropout, ...config }: Gpt2Config, layer: number): Block {
  return {
    path: `transformer.h.${layer}`,
    layer,
    width: nEmbd,
    norm: { kind: 'layer', epsilon: config.layerNormEpsilon },
    fanInFanOut: true,
    attention: {
      before: 'ln_1',
      qkv: 'attn.c_attn',
      heads: config.nHead,
      weightsDropout: ['attn.attn_dropout', dropout.attention],
      output: 'attn.c_proj',
      dropout: ['attn.resid_dropout', dropout.residual],
    },
    feedForward: {
      before: 'ln_2',
      inner: 'mlp.c_fc',
      width: nInner,
      act: config.activationFunction,
      outer: 'mlp.c_proj',
      dropout: ['mlp.dropout', dropout.residual],
    },
  };
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
