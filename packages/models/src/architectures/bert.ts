/**
 * BERT (Devlin et al., 2019) and the families that differ from it in a few settings: the encoder of encoder.ts, with
 * output x_L, and the heads of transformers. Module paths are those of BertForSequenceClassification,
 * BertForTokenClassification and their like.
 *
 *   of a text   tanh(x_L[first token] W_p) W_c      BERT, W_p: pooler.dense
 *               f(x_L[first token] W_d) W_o     the others; f: tanh for RoBERTa, gelu for ELECTRA, relu for DistilBERT
 *   of tokens   x_L W_c
 *   encode      mean over tokens of x_L
 */
import { linearSite, type Task } from '@peftjs/core/model';
import { gelu } from '@peftjs/core/nn';
import * as tf from '@tensorflow/tfjs-core';
import type { Tensor } from '@tensorflow/tfjs-core';
import { linearHead, type Architecture, type DenseHead, type Features, type Head } from '../architecture.js';
import { encoderWithHead, type EncoderConfig, type EncoderDropout } from '../encoder.js';
import {
  assertSetting,
  dropoutRate,
  nonNegativeInteger,
  positiveInteger,
  positiveNumber,
  type ConfigFile,
  type ModelType,
} from '../transformers/config.js';
import { encoderSettings, encoderType, type EncoderFamily } from './encoder-settings.js';

/** BERT as saved by transformers: `BertModel`, `BertForSequenceClassification` and any class with the whole encoder. */
export const bertType: ModelType = {
  name: 'bert',
  savedBy: 'BertModel or BertForSequenceClassification',
  prefix: 'bert.',
  ignoredSettings: [
    'directionality',
    'pooler_fc_size',
    'pooler_num_attention_heads',
    'pooler_num_fc_layers',
    'pooler_size_per_head',
    'pooler_type',
  ],
  architecture,
};

/** Missing settings default to those of bert-base-uncased, as in transformers. */
function architecture(config: ConfigFile, task: Task): Architecture {
  const settings = { ...encoderSettings(config), ...classicSettings(config), root: 'bert' };
  const pooler = linearSite('bert.pooler.dense', settings.hiddenSize, settings.hiddenSize);
  const ofTexts = (width: number, first: Features): Head =>
    linearHead({ path: 'classifier', dropout: settings.dropout.tokens }, width, (scope, inputs) =>
      tf.tanh(scope.linear(pooler.path, first(scope, inputs))),
    );
  const network = encoderWithHead(settings, ofTexts, task);
  if (task === 'token-classification') return network;
  return { ...network, ...(task === 'sequence-classification' && { sites: [...network.sites, pooler] }), pooler };
}

/** Reads the settings of BERT, RoBERTa and ELECTRA, which later encoders do not have. */
function classicSettings(config: ConfigFile): Pick<EncoderConfig, 'layerNormEps'> & { readonly typeVocabSize: number } {
  assertSetting(config, 'position_embedding_type', 'absolute');
  assertSetting(config, 'is_decoder', false);
  return {
    typeVocabSize: positiveInteger(config, 'type_vocab_size', 2),
    layerNormEps: positiveNumber(config, 'layer_norm_eps', 1e-12),
  };
}

/** The modules of the head of RoBERTa, ELECTRA and MPNet. One dropout module is applied twice, so it has two places. */
function classifier({ tokens }: EncoderDropout, activation: (x: Tensor) => Tensor): DenseHead {
  return {
    ...{ trained: ['classifier'], dense: 'classifier.dense', out: 'classifier.out_proj', activation },
    dropout: { dense: ['classifier.dropout', tokens], out: ['classifier.dropout.out_proj', tokens] },
  };
}

/** The head of RoBERTa and MPNet. */
export const robertaHead = (dropout: EncoderDropout): DenseHead => classifier(dropout, tf.tanh);

/**
 * RoBERTa (Liu et al., 2019) as saved by transformers, with positions that start after the padding ID: `RobertaModel`,
 * `RobertaForSequenceClassification` and any class with the encoder.
 */
export const robertaType = robertaLike('roberta', 'Roberta', { vocabSize: 50_265 });

/** XLM-RoBERTa (Conneau et al., 2020): RoBERTa trained on other texts. Includes multilingual E5 and BGE-M3. */
export const xlmRobertaType = robertaLike('xlm-roberta', 'XLMRoberta');

/** CamemBERT (Martin et al., 2020), which is RoBERTa trained on other texts. */
export const camembertType = robertaLike('camembert', 'Camembert');

/** Returns a model type with RoBERTa's network and module prefix. Missing settings default to those of transformers. */
function robertaLike(name: string, stem: string, defaults: EncoderFamily['defaults'] = {}): ModelType {
  return encoderType({
    name,
    root: 'roberta',
    defaults,
    savedBy: `${stem}Model or ${stem}ForSequenceClassification`,
    ofTexts: robertaHead,
    hasPooler: true,
    own(config, { maxPositionEmbeddings }) {
      const most = maxPositionEmbeddings - 2; // leaves at least one position for a token
      return { ...classicSettings(config), padTokenId: nonNegativeInteger(config, 'pad_token_id', 1, { most }) };
    },
  });
}

/**
 * ELECTRA's discriminator (Clark et al., 2020) as saved by transformers, whose embedding tables may be narrower than its
 * layers: `ElectraForPreTraining`, `ElectraForSequenceClassification` and others. Missing settings default to those of
 * electra-small-discriminator, as in transformers.
 */
export const electraType = encoderType({
  name: 'electra',
  root: 'electra',
  savedBy: 'ElectraModel or ElectraForSequenceClassification',
  ignoredSettings: ['generator_size', 'summary_activation', 'summary_last_dropout', 'summary_type', 'summary_use_proj'],
  defaults: { hiddenSize: 256, intermediateSize: 1024, numAttentionHeads: 4 },
  ofTexts: (dropout) => classifier(dropout, gelu),
  own: (config) => ({
    ...classicSettings(config),
    embeddingSize: positiveInteger(config, 'embedding_size', 128),
  }),
});

/**
 * DistilBERT (Sanh et al., 2019) as saved by transformers, without token types: `DistilBertModel`,
 * `DistilBertForSequenceClassification` and others. Missing settings default to those of distilbert-base-uncased, as in
 * transformers. Sinusoidal positions are stored as a table too.
 */
export const distilbertType = encoderType({
  name: 'distilbert',
  root: 'distilbert',
  savedBy: 'DistilBertModel or DistilBertForSequenceClassification',
  ignoredSettings: ['qa_dropout', 'sinusoidal_pos_embds', 'tie_weights_'],
  defaults: { numHiddenLayers: 6 },
  keys: {
    hiddenSize: 'dim',
    numHiddenLayers: 'n_layers',
    numAttentionHeads: 'n_heads',
    intermediateSize: 'hidden_dim',
    hiddenAct: 'activation',
    hiddenDropout: 'dropout',
    attentionDropout: 'attention_dropout',
    headDropout: 'dropout',
  },
  ofTexts: (_, config) => ({
    trained: ['pre_classifier', 'classifier'],
    dense: 'pre_classifier',
    out: 'classifier',
    activation: (x: Tensor) => tf.relu(x),
    dropout: { out: ['dropout', dropoutRate(config, 'seq_classif_dropout', 0.2)] },
  }),
  own: () => ({
    layers: 'transformer.layer',
    names: {
      query: 'attention.q_lin',
      key: 'attention.k_lin',
      value: 'attention.v_lin',
      output: 'attention.out_lin',
      outputNorm: 'sa_layer_norm',
      inner: 'ffn.lin1',
      outer: 'ffn.lin2',
      outerNorm: 'output_layer_norm',
      dropouts: { attention: 'attention.dropout', outer: 'ffn.dropout' },
    },
    layerNormEps: 1e-12,
    defaultTargetModules: ['q_lin', 'v_lin'],
  }),
});
