/** The models of a tokenizer.json, which split words into tokens. */
import { field, fileError, shown } from '../json.js';
import { library, type TokenModel } from './parts.js';
import { unigram } from './unigram.js';

/** The largest `max_input_chars_per_word`, usually 100: the time of a word grows with its third power. */
const LONGEST_WORD = 500;

/** Returns the model. @throws CheckpointError when it is unknown or broken. */
export function modelOf(definition: unknown, file: string): TokenModel {
  const type = field(definition, 'type') ?? untagged(definition);
  const make = typeof type === 'string' && Object.hasOwn(KINDS, type) ? KINDS[type] : undefined;
  if (!make) {
    const known = Object.keys(KINDS).join(', ');
    throw fileError(file, `not a tokenizer: unknown model ${shown(type)}; known ones are ${known}`);
  }
  return make(definition, file);
}

/** Infers the type of a model, which old files omit. */
function untagged(definition: unknown): string {
  if (Array.isArray(field(definition, 'vocab'))) return 'Unigram';
  if (field(definition, 'merges') !== undefined) return 'BPE';
  return field(definition, 'continuing_subword_prefix') === undefined ? 'WordLevel' : 'WordPiece';
}

const KINDS: Readonly<Record<string, (definition: unknown, file: string) => TokenModel>> = {
  BPE(definition, file) {
    for (const name of ['continuing_subword_prefix', 'continuing_subword_suffix', 'dropout']) {
      const value = field(definition, name);
      if (value === null || value === undefined || value === '' || value === 0) continue;
      throw fileError(file, `'${name}' ${shown(value)} of a BPE model is not supported`);
    }
    const vocabulary = vocabularyOf(definition, file);
    const words = new library.BPE(definition);
    const suffix = field(definition, 'end_of_word_suffix');
    return {
      ...vocabulary,
      tokensOf: (word) => words([word]),
      endsOf: (word, tokens) =>
        endsInWord(word, typeof suffix === 'string' ? tokens.map((token) => token.replace(suffix, '')) : tokens, {
          isKnown: (character) => vocabulary.ids.has(character),
          isFused: field(definition, 'fuse_unk') === true,
        }),
    };
  },
  Unigram: unigram,
  WordLevel(definition, file) {
    const vocabulary = vocabularyOf(definition, file);
    const unknown = field(definition, 'unk_token');
    const absent = typeof unknown === 'string' ? [unknown] : [];
    return {
      ...vocabulary,
      tokensOf: (word) => (vocabulary.ids.has(word) ? [word] : absent),
      endsOf: (word, tokens) => tokens.map(() => word.length),
    };
  },
  WordPiece(definition, file) {
    const longest = field(definition, 'max_input_chars_per_word') ?? 100;
    if (!(Number(longest) <= LONGEST_WORD)) {
      throw fileError(file, `'max_input_chars_per_word' must be at most ${LONGEST_WORD}, got ${shown(longest)}`);
    }
    const vocabulary = vocabularyOf(definition, file);
    const words = new library.WordPiece(definition);
    const mark = field(definition, 'continuing_subword_prefix');
    const marked = typeof mark === 'string' ? mark : '##';
    return {
      ...vocabulary,
      tokensOf: (word) => words([word]),
      endsOf(word, tokens) {
        if (tokens.length === 1) return [word.length]; // the word, or the unknown token
        let at = 0;
        return tokens.map((token, index) => (at += token.length - (index === 0 ? 0 : marked.length)));
      },
    };
  },
};

/**
 * Returns where each token ends in a word. A token is a part of the word, a byte of a character, or an unknown token.
 */
function endsInWord(
  word: string,
  tokens: readonly string[],
  { isKnown, isFused }: { isKnown: (character: string) => boolean; isFused: boolean },
): number[] {
  let at = 0;
  let bytes = 0; // of the character at `at`, covered by earlier tokens
  const characterAt = (): string => String.fromCodePoint(word.codePointAt(at) as number);
  return tokens.map((token) => {
    while (at < word.length && bytes === 0 && !word.startsWith(token, at)) {
      if (/^<0x[0-9A-F]{2}>$/.test(token)) break;
      const character = characterAt();
      at += character.length;
      if (isFused && at < word.length && !isKnown(characterAt())) continue;
      if (!isKnown(character)) return at;
    }
    if (word.startsWith(token, at) && bytes === 0) return (at += token.length);
    if (at >= word.length) return at;
    const character = characterAt();
    if (++bytes < new TextEncoder().encode(character).length) return at + character.length;
    bytes = 0;
    return (at += character.length);
  });
}

function vocabularyOf(definition: unknown, file: string): Pick<TokenModel, 'ids' | 'unknownId'> {
  const vocabulary = field(definition, 'vocab');
  if (typeof vocabulary !== 'object' || vocabulary === null || Array.isArray(vocabulary)) {
    throw fileError(file, `not a tokenizer: expected ids by token, got ${shown(vocabulary)}`);
  }
  const ids = new Map(Object.entries(vocabulary as Record<string, number>));
  return { ids, unknownId: ids.get(String(field(definition, 'unk_token'))) };
}
