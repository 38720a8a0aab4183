/** Encoders like BERT: the settings of config.json that all share, and those with other values in a family. */
import { linearSite } from '@peftjs/core/model';
import { denseHead, type DenseHead } from '../architecture.js';
import { bertLayerNames, encoderWithHead, type EncoderConfig, type EncoderDropout } from '../encoder.js';
import { activation, dropoutRate, positiveInteger, type ConfigFile, type ModelType } from '../transformers/config.js';

/** A family of encoders: what differs from BERT. */
export interface EncoderFamily extends Shared, Omit<ModelType, 'prefix' | 'architecture'> {
  /** The first part of its module paths. */
  readonly root: string;
  /** Returns the head on the first token of a text. */
  readonly ofTexts: (dropout: EncoderDropout, config: ConfigFile) => DenseHead;
  /** Whether checkpoints have a pooler that no head reads, which is saved with embedding models. Default false. */
  readonly hasPooler?: boolean;
  /** Returns what the network has besides the shared settings. It overrides BERT's module names and targets. */
  readonly own: (
    config: ConfigFile,
    settings: EncoderSettings,
  ) => Partial<EncoderConfig> & Pick<EncoderConfig, 'layerNormEps'>;
}

/** How a family's config.json has the shared settings. */
interface Shared {
  /** The names of settings that are not BERT's. */
  readonly keys?: Partial<typeof KEYS>;
  /** The values of missing settings, as in the architecture's class in transformers. Default: those of BERT. */
  readonly defaults?: Partial<typeof BERT_BASE>;
}

/** The names of the shared settings in BERT's config.json. */
export const KEYS = {
  hiddenSize: 'hidden_size',
  numHiddenLayers: 'num_hidden_layers',
  numAttentionHeads: 'num_attention_heads',
  intermediateSize: 'intermediate_size',
  hiddenAct: 'hidden_act',
  hiddenDropout: 'hidden_dropout_prob',
  attentionDropout: 'attention_probs_dropout_prob',
  headDropout: 'classifier_dropout',
};

/** The sizes of bert-base-uncased. */
const BERT_BASE = {
  vocabSize: 30_522,
  hiddenSize: 768,
  numHiddenLayers: 12,
  numAttentionHeads: 12,
  intermediateSize: 3072,
};

/** Returns the model type of a family. */
export function encoderType({ root, keys, defaults, own, ofTexts, hasPooler, ...type }: EncoderFamily): ModelType {
  return {
    ...type,
    prefix: `${root}.`,
    architecture(config, task) {
      const settings = encoderSettings(config, { ...(keys && { keys }), ...(defaults && { defaults }) });
      const encoder = { ...settings, name: type.name, root, ...own(config, settings) };
      const { hiddenSize, dropout } = settings;
      const head = ofTexts(dropout, config);
      return {
        ...encoderWithHead(encoder, (...features) => denseHead(head, ...features), task),
        ...(hasPooler &&
          task === 'feature-extraction' && { pooler: linearSite(`${root}.pooler.dense`, hiddenSize, hiddenSize) }),
      };
    },
  };
}

/** The settings that all encoders read. */
type EncoderSettings = ReturnType<typeof encoderSettings>;

/** Reads the shared settings. @throws CheckpointError for an invalid setting. */
export function encoderSettings(config: ConfigFile, { keys, defaults }: Shared = {}) {
  const names = { ...KEYS, ...keys };
  const usual = { ...BERT_BASE, ...defaults };
  const hiddenSize = positiveInteger(config, names.hiddenSize, usual.hiddenSize);
  return {
    layers: 'encoder.layer',
    names: bertLayerNames,
    defaultTargetModules: ['query', 'value'],
    vocabSize: positiveInteger(config, 'vocab_size', usual.vocabSize),
    hiddenSize,
    numHiddenLayers: positiveInteger(config, names.numHiddenLayers, usual.numHiddenLayers, { most: 1000 }),
    numAttentionHeads: positiveInteger(config, names.numAttentionHeads, usual.numAttentionHeads, {
      divides: hiddenSize,
    }),
    intermediateSize: positiveInteger(config, names.intermediateSize, usual.intermediateSize),
    maxPositionEmbeddings: positiveInteger(config, 'max_position_embeddings', 512),
    hiddenAct: activation(config, names.hiddenAct, 'gelu'),
    dropout: encoderDropout(config, names),
  };
}

/** Reads the rates of dropout, that of heads by its own setting. @throws CheckpointError for an invalid rate. */
export function encoderDropout(config: ConfigFile, names: typeof KEYS): EncoderDropout {
  const hidden = dropoutRate(config, names.hiddenDropout, 0.1);
  return {
    hidden,
    attention: dropoutRate(config, names.attentionDropout, 0.1),
    tokens: dropoutRate(config, names.headDropout, hidden),
  };
}
