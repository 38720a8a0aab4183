/** The models of a tokenizer.json: the tokens of a word. */
import { CheckpointError } from '@peftjs/core/method';
import { field, shown } from '../json.js';
import { library } from './parts.js';
import { unigram } from './unigram.js';

/** A vocabulary, and how a word is made of it. */
export interface TokenModel {
  readonly ids: Map<string, number>;
  readonly unknownId: number | undefined;
  /** The tokens of a word; a text that is none stands for an unknown one. */
  tokensOf(word: string): readonly string[];
}

/** @throws CheckpointError for a model that is not known or broken. */
export function modelOf(definition: unknown, file: string): TokenModel {
  const type = field(definition, 'type') ?? untagged(definition);
  const make = typeof type === 'string' && Object.hasOwn(KINDS, type) ? KINDS[type] : undefined;
  if (!make) {
    const known = Object.keys(KINDS).join(', ');
    throw new CheckpointError(`${file}: not a tokenizer: unknown model ${shown(type)}; known ones are ${known}`, file);
  }
  return make(definition, file);
}

/** Old files leave out what kind a model is. */
function untagged(definition: unknown): string {
  if (Array.isArray(field(definition, 'vocab'))) return 'Unigram';
  if (field(definition, 'merges') !== undefined) return 'BPE';
  return field(definition, 'continuing_subword_prefix') === undefined ? 'WordLevel' : 'WordPiece';
}

const KINDS: Readonly<Record<string, (definition: unknown, file: string) => TokenModel>> = {
  BPE(definition, file) {
    for (const name of ['continuing_subword_prefix', 'dropout']) {
      const value = field(definition, name);
      if (value === null || value === undefined || value === '' || value === 0) continue;
      throw new CheckpointError(`${file}: '${name}' ${shown(value)} of a BPE model is not supported`, file);
    }
    const words = new library.BPE(definition);
    return { ...vocabularyOf(definition), tokensOf: (word) => words([word]) };
  },
  Unigram: unigram,
  WordLevel(definition) {
    const vocabulary = vocabularyOf(definition);
    const unknown = field(definition, 'unk_token');
    const absent = typeof unknown === 'string' ? [unknown] : [];
    return { ...vocabulary, tokensOf: (word) => (vocabulary.ids.has(word) ? [word] : absent) };
  },
  WordPiece(definition) {
    const words = new library.WordPiece(definition);
    return { ...vocabularyOf(definition), tokensOf: (word) => words([word]) };
  },
};

function vocabularyOf(definition: unknown): Pick<TokenModel, 'ids' | 'unknownId'> {
  const ids = new Map(Object.entries(field(definition, 'vocab') as Record<string, number>));
  return { ids, unknownId: ids.get(String(field(definition, 'unk_token'))) };
}
