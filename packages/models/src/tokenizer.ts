import { CheckpointError } from '@peftjs/core/method';
import type { ChatTemplate } from './chat-template.js';
import { sha256 } from './fingerprint.js';
import { field, fileError, reasonOf } from './json.js';
import { spanFinder, withinWord, wordsIn, type TokenSpan } from './token-spans.js';
import type { Sequence } from './tokenizer/post-processors.js';
import { openTextTokenizer, type TextTokenizer } from './tokenizer/text-tokenizer.js';
import { checkParts } from './tokenizer-patterns.js';

/** A text, or a pair of texts, as token IDs. */
export interface Encoding {
  /** The token IDs, including special tokens. */
  readonly ids: number[];
  /** The token types: 0 for the first text, 1 for the second. Absent for models without token types. */
  readonly typeIds?: number[];
  /** Whether tokens were dropped to fit the maximum length. */
  readonly truncated: boolean;
  /** The characters that each token covers in its own text; null for a special token. Only with the option `spans`. */
  readonly spans?: readonly (TokenSpan | null)[];
}

/** Which text of a pair is truncated: the longer one token by token, always the first, or always the second. */
type Truncation = 'longest_first' | 'only_first' | 'only_second';

/** A sentence, given as words, as token IDs. */
export interface WordEncoding extends Encoding {
  /** The index of each token's word; undefined for special tokens. A word may have no tokens. */
  readonly words: (number | undefined)[];
}

/** Options of `Tokenizer.encode`. */
export interface EncodeOptions {
  /**
   * The maximum number of IDs, including special tokens, at most the model's `maxTokens`. It is only exceeded if the
   * text that `truncation` does not shorten is too long. Default: the model's `maxTokens`.
   */
  readonly maxTokens?: number;
  /** Which text of a pair is truncated. Default 'longest_first'. */
  readonly truncation?: Truncation | undefined;
  /** Whether to return `spans`. Default false. */
  readonly spans?: boolean;
}

/** The IDs of special tokens in a model's settings. */
export interface SpecialIds {
  /** The ID of the token that ends a text, for a language model. */
  readonly eosTokenId?: number | undefined;
  /** The ID of the token that starts a text, if the model has one. */
  readonly bosTokenId?: number | undefined;
  /** The ID of the padding token. */
  readonly padTokenId?: number | undefined;
}

/** Converts text to token IDs and back. */
export interface Tokenizer extends SpecialIds {
  /**
   * Returns the IDs of a text, or of a pair of texts in one sequence. Texts that are too long lose their last tokens, or
   * their first ones if the model's settings say so, the longer text of a pair first; special tokens are kept. An empty
   * `pair` counts as none.
   */
  encode(text: string, pair?: string, options?: EncodeOptions): Encoding;
  /**
   * Returns the IDs of a sentence given as words, as transformers does with `is_split_into_words=True`. Byte-level
   * tokenizers put a blank before each word, as with `add_prefix_space=True`. A sentence that is too long loses the
   * same tokens as a text. A sentence that is one string is split as data for taggers are: at blanks, with punctuation
   * and 's apart. `spans` cover characters of the string, or of each given word.
   */
  encodeWords(sentence: string | readonly string[], options?: Pick<EncodeOptions, 'maxTokens' | 'spans'>): WordEncoding;
  /** The values of `truncation` that `encode` supports. */
  readonly truncations: readonly Truncation[];
  /** Returns all IDs of a text, without special tokens and without truncation. */
  tokenIds(text: string): number[];
  /** Returns the text of IDs, without special tokens such as the end of a text. */
  decode(ids: readonly number[]): string;
  /** Returns the text of pieces, as in `spans`: with blanks between words and none within. */
  join(pieces: readonly string[]): string;
  /** A hash of everything that affects the IDs. */
  readonly fingerprint: string;
  /** The size of the vocabulary: every ID is below it. */
  readonly vocabularySize: number;
  /** Whether `encode` puts `bosTokenId` before a text: Llama's does, GPT-2's does not. */
  readonly addBosToken: boolean;
  /** The ID of the padding token. If the model has none, as in GPT-2, it is the usual substitute: `eosTokenId`. */
  readonly padTokenId?: number | undefined;
  /** The IDs of special tokens by their text, e.g. '<|im_end|>'. `decode` omits them. */
  readonly specialTokens: ReadonlyMap<string, number>;
  /** Renders conversations, for a language model with a chat template. */
  readonly chatTemplate?: ChatTemplate | undefined;
}

/** A tokenizer in the format of `tokenizer.json`. */
export interface TokenizerDefinition {
  /** The model, e.g. BPE, WordPiece or Unigram, with its vocabulary. */
  readonly model: Readonly<Record<string, unknown>>;
  /** The other parts, e.g. `normalizer` and `pre_tokenizer`. */
  readonly [part: string]: unknown;
}

/** The properties of a model that its tokenizer needs. */
export interface TokenizerLimits {
  /** The longest sequence, in tokens. */
  readonly maxTokens: number;
  /** The size of the vocabulary: every ID must be below it. */
  readonly vocabularySize: number;
  /** The number of token types. With more than 1, encodings have `typeIds`. Default 1. */
  readonly tokenTypes?: number | undefined;
  /** The special tokens in the model's settings. Default: none. */
  readonly special?: SpecialIds | undefined;
  /** Whether a text that is too long keeps its last tokens instead of its first ones. Default false. */
  readonly keepsEnd?: boolean | undefined;
  /** The name of the tokenizer's file, for errors. */
  readonly file: string;
}

/**
 * Creates a tokenizer whose sequences have at most `maxTokens` IDs.
 * @throws CheckpointError when the definition is broken, has IDs or token types that the model does not, or has parts
 * that may take exponential time or memory. The tokenizer throws one for a text that its parts make much longer.
 */
export async function createTokenizer(definition: TokenizerDefinition, limits: TokenizerLimits): Promise<Tokenizer> {
  const { maxTokens, tokenTypes = 1, vocabularySize, special = {}, keepsEnd = false, file } = limits;
  const { tokenizer, content } = built(definition, limits);
  checkSpecialTokens(tokenizer, limits);
  const fingerprint = await sha256(new TextEncoder().encode(content));
  const idOf = (token: string): number => idIn(tokenizer, token, file);
  const asFarAs = (most: number): number => (keepsEnd ? Infinity : most);
  const read: IdReader = (text, most) => idsOfWords(tokenizer.words(text), idOf, asFarAs(most));
  const tokensAround = [null, []].map((second) => tokenizer.around([], second).tokens.length);
  const firstSpans = spanFinder(tokenizer, definition);
  const spansOf = (text: string, count: number): TokenSpan[] => cut(firstSpans(text, asFarAs(count)), count, keepsEnd);
  const blank = blankBeforeWords(definition);
  const finished = ({ tokens, types, truncated }: Shortened): Encoding => ({
    ids: tokens.map((token) => (typeof token === 'number' ? token : idOf(token))),
    ...(tokenTypes > 1 && { typeIds: types }),
    truncated,
  });
  return {
    fingerprint,
    vocabularySize,
    ...special,
    addBosToken: begins(tokenizer, special.bosTokenId),
    padTokenId: special.padTokenId ?? special.eosTokenId,
    specialTokens: tokenizer.specialTokens,
    truncations: ['longest_first', 'only_first', 'only_second'],
    tokenIds: (text) => read(text, Infinity),
    decode: (ids) => tokenizer.decode(ids),
    join: (pieces) => tokenizer.join(pieces),
    encode(text, pair, options = {}) {
      const most = Math.min(options.maxTokens ?? maxTokens, maxTokens);
      const special = tokensAround[pair ? 1 : 0] as number;
      const limit = { most, special, truncation: options.truncation ?? 'longest_first', keepsEnd };
      const [first, second] = readPair(read, [text, pair], limit);
      const kept = shortened(tokenizer, first, second, limit);
      if (!options.spans) return finished(kept);
      const [count, pairCount] = kept.counts;
      const spans = [...spansOf(text, count), ...spansOf(pair ?? '', pairCount)];
      return { ...finished(kept), spans: around(kept.tokens, spans) };
    },
    encodeWords(sentence, options = {}) {
      const most = Math.min(options.maxTokens ?? maxTokens, maxTokens);
      const words = typeof sentence === 'string' ? wordsIn(sentence) : sentence.map((word) => ({ word, start: 0 }));
      const ids: number[] = [];
      const wordOf: number[] = [];
      const spans: TokenSpan[] = [];
      words.forEach(({ word, start }, index) => {
        if (ids.length > asFarAs(most)) return;
        const added = word === '' || word.startsWith(' ') ? '' : blank;
        for (const id of read(added + word, most)) {
          ids.push(id);
          wordOf.push(index);
        }
        if (options.spans) spans.push(...withinWord(firstSpans(added + word, asFarAs(most)), start, added.length));
      });
      const limit = { most, special: tokensAround[0] as number, truncation: 'longest_first', keepsEnd } as const;
      const kept = shortened(tokenizer, ids, null, limit);
      const keptOf = <T>(all: readonly T[]): (T | null)[] => around(kept.tokens, cut(all, kept.counts[0], keepsEnd));
      return {
        ...finished(kept),
        words: keptOf(wordOf).map((word) => word ?? undefined),
        ...(options.spans && { spans: keptOf(spans) }),
      };
    },
  };
}

/** Returns the IDs of a text. Once there are more than `most`, the rest is not read. */
type IdReader = (text: string, most: number) => number[];

function idsOfWords(words: Iterable<readonly string[]>, idOf: (token: string) => number, most: number): number[] {
  const ids: number[] = [];
  for (const tokens of words) {
    for (const token of tokens) ids.push(idOf(token));
    if (ids.length > most) break;
  }
  return ids;
}

/**
 * Returns the IDs of a text and its pair, as far as the truncation needs them. Two long texts are read completely,
 * because their lengths decide which one is truncated, and so is a text that must not be truncated. Where the end is
 * kept, `read` has returned whole texts.
 */
function readPair(
  read: IdReader,
  [text, pair]: readonly [string, string | undefined],
  { most, truncation, keepsEnd }: Limit,
): [number[], number[] | null] {
  const first = read(text, truncation === 'only_second' ? Infinity : most);
  if (!pair) return [first, null];
  const second = read(pair, truncation === 'only_first' ? Infinity : most);
  const areBothLong = truncation === 'longest_first' && first.length > most && second.length > most;
  return areBothLong && !keepsEnd ? [read(text, Infinity), read(pair, Infinity)] : [first, second];
}

/** Returns the text to put before each word: byte-level tokenizers expect a blank, unless they add it themselves. */
function blankBeforeWords({ pre_tokenizer: cut }: TokenizerDefinition): '' | ' ' {
  const steps = [cut, ...[field(cut, 'pretokenizers') ?? []].flat()];
  const byteLevel = steps.find((step) => field(step, 'type') === 'ByteLevel');
  return byteLevel !== undefined && field(byteLevel, 'add_prefix_space') !== true ? ' ' : '';
}

/** The limit on a sequence's length. */
interface Limit {
  readonly most: number;
  /** The number of special tokens around the texts. */
  readonly special: number;
  readonly truncation: Truncation;
  readonly keepsEnd: boolean;
}

/** A sequence, whether it was truncated, and the number of tokens kept of each text. */
interface Shortened extends Sequence {
  readonly truncated: boolean;
  readonly counts: readonly [number, number];
}

/** Truncates a text and its pair to at most `most` tokens, or as far as `truncation` allows. */
function shortened(
  tokenizer: TextTokenizer,
  first: number[],
  second: number[] | null,
  { most, special, truncation, keepsEnd }: Limit,
): Shortened {
  const room = Math.max(0, most - special);
  const [keptFirst, keptSecond] = keptLengths[truncation](first.length, second?.length ?? 0, room);
  const kept = tokenizer.around(cut(first, keptFirst, keepsEnd), second && cut(second, keptSecond, keepsEnd));
  const end = truncation === 'longest_first' ? most : kept.tokens.length;
  return {
    tokens: kept.tokens.slice(0, end),
    types: kept.types.slice(0, end),
    truncated: first.length + (second?.length ?? 0) + special > most,
    counts: [keptFirst, keptSecond],
  };
}

/** Returns the first `count` values, or the last ones. */
function cut<T>(values: readonly T[], count: number, keepsEnd: boolean): T[] {
  return keepsEnd ? values.slice(values.length - count) : values.slice(0, count);
}

/** Assigns values to the tokens of texts, and null to special tokens, which are given by name. */
function around<T>(tokens: Sequence['tokens'], ofText: readonly T[]): (T | null)[] {
  let next = 0;
  return tokens.map((token) => (typeof token === 'number' ? (ofText[next++] ?? null) : null));
}

const keptLengths: Readonly<Record<Truncation, typeof longestFirst>> = {
  longest_first: longestFirst,
  only_first: (first, second, room) => [Math.min(first, Math.max(1, room - second)), second],
  only_second: (first, second, room) => [first, Math.min(second, Math.max(1, room - first))],
};

/** Returns how many tokens of each text fit into `room`. The longer text is truncated first, as in transformers. */
function longestFirst(first: number, second: number, room: number): [first: number, second: number] {
  const shorter = Math.min(first, second, Math.floor(room / 2));
  const longer = Math.min(Math.max(first, second), room - shorter);
  return first > second ? [longer, shorter] : [shorter, longer];
}

/** Whether the tokenizer puts this token before a text. */
function begins(tokenizer: TextTokenizer, id: number | undefined): boolean {
  const [first] = tokenizer.around([0], null).tokens;
  return id !== undefined && typeof first === 'string' && tokenizer.idOf(first) === id;
}

function idIn(tokenizer: TextTokenizer, token: string, file: string): number {
  const id = tokenizer.idOf(token) ?? tokenizer.unknownId;
  if (id !== undefined) return id;
  throw fileError(file, `the vocabulary has no ${JSON.stringify(token)} and no unknown token`);
}

/** @throws CheckpointError when a special token has no ID, or a token type is not one of the model's. */
function checkSpecialTokens(tokenizer: TextTokenizer, { tokenTypes = 1, file }: TokenizerLimits): void {
  const around = [tokenizer.around([0], null), tokenizer.around([0], [0])];
  const special = around.flatMap(({ tokens }) => tokens).filter((token) => typeof token === 'string');
  const unknown = special.find((token) => tokenizer.idOf(token) === undefined);
  if (unknown !== undefined) {
    throw fileError(file, `the special token ${JSON.stringify(unknown)} has no id`);
  }
  if (tokenTypes === 1) return;
  const types = around.flatMap((own) => own.types);
  const odd = types.find((type) => !Number.isInteger(type) || type < 0 || type >= tokenTypes);
  if (odd === undefined) return;
  throw fileError(file, `token types must be 0 to ${tokenTypes - 1}, got ${odd}`);
}

function built(
  definition: TokenizerDefinition,
  { maxTokens, keepsEnd, file }: TokenizerLimits,
): { tokenizer: TextTokenizer; content: string } {
  // Earlier versions dropped the second text of a pair here, so the fingerprint must differ from theirs.
  const keepsPairs = field(definition.post_processor, 'type') === 'ByteLevel';
  try {
    checkParts(definition, file);
    const own = { ...(keepsPairs && { pairs: 'both' }), ...(keepsEnd && { keepsEnd }) };
    const content = JSON.stringify({ definition, maxTokens, ...own });
    const tokenizer = openTextTokenizer(definition, file);
    Array.from(tokenizer.words('a')); // a broken definition fails here
    return { tokenizer, content };
  } catch (cause) {
    if (cause instanceof CheckpointError) throw cause;
    throw fileError(file, `not a tokenizer: ${reasonOf(cause)}`, cause);
  }
}
