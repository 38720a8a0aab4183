import { CheckpointError } from '@peftjs/core';
import { field, shown } from '../json.js';
import {
  boolean,
  positiveInteger,
  positiveNumber,
  refuseUnless,
  wholeNumber,
  type ConfigFile,
} from '../transformers/config.js';
import type { ModelType } from '../transformers/model-type.js';
import { debertaV2, type DebertaV2Config } from './architecture.js';

/** DeBERTa v2 and v3 as transformers saves them: `DebertaV2Model`, `DebertaV2ForSequenceClassification` and others. */
export const debertaV2Type: ModelType = {
  name: 'deberta-v2',
  savedBy: 'DebertaV2Model or DebertaV2ForSequenceClassification',
  prefix: 'deberta.',
  architecture: (config, task) => debertaV2(settings(config), task),
};

/** What a config.json leaves out is as transformers has it, but that relative attention must be asked for. */
function settings(config: ConfigFile): DebertaV2Config {
  refuseUnless(config, 'hidden_act', 'gelu');
  refuseUnless(config, 'pooler_hidden_act', 'gelu');
  refuseUnless(config, 'conv_kernel_size', 0);
  refuseUnless(config, 'relative_attention', true, false);
  const hiddenSize = positiveInteger(config, 'hidden_size', 1536);
  for (const width of ['embedding_size', 'pooler_hidden_size']) refuseUnless(config, width, hiddenSize);
  const numAttentionHeads = positiveInteger(config, 'num_attention_heads', 24, { divides: hiddenSize });
  refuseUnless(config, 'attention_head_size', hiddenSize / numAttentionHeads);
  const maxPositionEmbeddings = positiveInteger(config, 'max_position_embeddings', 512);
  const terms = attentionTerms(config);
  return {
    vocabSize: positiveInteger(config, 'vocab_size', 128_100),
    hiddenSize,
    numHiddenLayers: positiveInteger(config, 'num_hidden_layers', 24, { most: 1000 }),
    numAttentionHeads,
    intermediateSize: positiveInteger(config, 'intermediate_size', 6144),
    layerNormEps: positiveNumber(config, 'layer_norm_eps', 1e-7),
    maxPositionEmbeddings,
    typeVocabSize: wholeNumber(config, 'type_vocab_size', 0),
    positionBiasedInput: boolean(config, 'position_biased_input', true),
    contentToPosition: terms.includes('c2p'),
    positionToContent: terms.includes('p2c'),
    shareAttKey: boolean(config, 'share_att_key', false),
    normalisedPositions: parts(config, 'norm_rel_ebd', 'none').includes('layer_norm'),
    ...distancesOf(config, maxPositionEmbeddings),
  };
}

/** How distances are told apart; a number below 1 stands for none given. */
function distancesOf(
  config: ConfigFile,
  maxPositionEmbeddings: number,
): Pick<DebertaV2Config, 'positionBuckets' | 'maxRelativePositions'> {
  const given = (name: string, least: number): number | null => {
    const value = field(config.settings, name);
    return typeof value === 'number' && value < 1 ? null : positiveInteger(config, name, least);
  };
  const maxRelativePositions = given('max_relative_positions', maxPositionEmbeddings) ?? maxPositionEmbeddings;
  const isGiven = field(config.settings, 'position_buckets') !== undefined;
  const positionBuckets = isGiven ? given('position_buckets', 1) : null;
  const most = 2 * (maxRelativePositions - 1) - 1; // half of them are distances of their own, the others lie between it and the last
  if (positionBuckets === null || (positionBuckets >= 2 && positionBuckets <= most)) {
    return { positionBuckets, maxRelativePositions };
  }
  throw new CheckpointError(
    `${config.file}: 'position_buckets' must be from 2 to ${most} for distances below ${maxRelativePositions}, got ${positionBuckets}`,
    config.file,
  );
}

/** The terms of the attention besides content to content. */
function attentionTerms(config: ConfigFile): readonly string[] {
  const terms = parts(config, 'pos_att_type', '');
  const unknown = terms.find((term) => term !== 'c2p' && term !== 'p2c');
  if (unknown === undefined) return terms;
  throw new CheckpointError(
    `${config.file}: 'pos_att_type' must be made of "c2p" and "p2c", got ${shown(unknown)}, which is not supported`,
    config.file,
  );
}

/** A setting that is a list of words, or several with a bar between them. */
function parts(config: ConfigFile, name: string, fallback: string): string[] {
  const value = field(config.settings, name) ?? fallback;
  const words: unknown[] =
    typeof value === 'string' ? value.toLowerCase().split('|') : Array.isArray(value) ? value : [];
  const texts = words.flatMap((word) => (typeof word === 'string' ? [word.trim()] : []));
  const isMadeOfWords = typeof value === 'string' || (Array.isArray(value) && texts.length === words.length);
  if (isMadeOfWords) return texts.filter((word) => word !== '');
  throw new CheckpointError(`${config.file}: '${name}' must be made of words, got ${shown(value)}`, config.file);
}
