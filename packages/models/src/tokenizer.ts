import { CheckpointError } from '@peftjs/core/method';
import type { ChatTemplate } from './chat-template.js';
import { sha256 } from './fingerprint.js';
import { field, reasonOf } from './json.js';
import { spanFinder, type TokenSpan } from './token-spans.js';
import type { Sequence } from './tokenizer/post-processors.js';
import { openTextTokenizer, type TextTokenizer } from './tokenizer/text-tokenizer.js';
import { checkPatterns } from './tokenizer-patterns.js';

/** What a model reads of a text. */
export interface Encoding {
  readonly ids: number[];
  /** 0 for the first text, 1 for its pair, in models that tell them apart. */
  readonly typeIds?: number[];
  /** Whether tokens were left out, so that the others fit. */
  readonly truncated: boolean;
  /** Which characters each token covers, in its own text of a pair; null for a token put around the texts. Given when asked for. */
  readonly spans?: readonly (TokenSpan | null)[];
}

/** Which text of a pair that is too long loses tokens: the longer one, one after the other; always the first; always the second. */
type Truncation = 'longest_first' | 'only_first' | 'only_second';

/** What a model reads of a sentence in words. */
export interface WordEncoding extends Encoding {
  /** The number of the word that each token is of; undefined for tokens around the sentence. A word may have no tokens. */
  readonly words: (number | undefined)[];
}

/** How a text is encoded. */
export interface EncodeOptions {
  /**
   * Most ids to give, special tokens included. Default, and never exceeded but where the text that may not be cut is too long:
   * the model's own `maxTokens`.
   */
  readonly maxTokens?: number;
  /** Default 'longest_first'. */
  readonly truncation?: Truncation | undefined;
  /** Whether `spans` are given. Default false. */
  readonly spans?: boolean;
}

/** Text to token ids. */
export interface Tokenizer {
  /**
   * The ids of a text, or of a pair of texts in one sequence. What is too long loses its last tokens, of a pair the longer text
   * first; the tokens that close a text stay. An empty pair is no pair.
   */
  encode(text: string, pair?: string, options?: EncodeOptions): Encoding;
  /**
   * The ids of a sentence that is cut into words already, as transformers has them with `is_split_into_words=True`; words of byte-level
   * tokenizers are read as with `add_prefix_space=True`: with a blank before each. What is too long loses its last tokens.
   */
  encodeWords(words: readonly string[], options?: Pick<EncodeOptions, 'maxTokens'>): WordEncoding;
  /** The truncations that `encode` knows. */
  readonly truncations: readonly Truncation[];
  /** Every id of a text: nothing is put around it, and nothing is cut. */
  tokenIds(text: string): number[];
  /** The text of ids; tokens with a meaning of their own, e.g. the end of a text, are left out. */
  decode(ids: readonly number[]): string;
  /** The text of pieces, as `spans` have them: with blanks between words, and none within. */
  join(pieces: readonly string[]): string;
  /** A hash of everything that decides the ids. */
  readonly fingerprint: string;
  /** All ids are below it. */
  readonly vocabularySize: number;
  /** Id of the token that ends a text, for a model that predicts the next one. */
  readonly eosTokenId?: number | undefined;
  /** Id of the token that begins a text, where the model knows one. */
  readonly bosTokenId?: number | undefined;
  /** Whether `encode` begins a text with that token: Llama's does, GPT-2's does not. */
  readonly addBosToken: boolean;
  /** Id of the token in padding: its own, else, as everyone helps GPT-2 to one, that which ends a text. */
  readonly padTokenId?: number | undefined;
  /** Ids of the tokens with a meaning of their own, by their text, e.g. of '<|im_end|>'. `decode` leaves them out. */
  readonly specialTokens: ReadonlyMap<string, number>;
  /** How the model reads a conversation, where it is a language model that says so. */
  readonly chatTemplate?: ChatTemplate | undefined;
}

/** A tokenizer in the format of `tokenizer.json`. */
export interface TokenizerDefinition {
  readonly model: Readonly<Record<string, unknown>>;
  readonly [part: string]: unknown;
}

/** Ids of tokens with a meaning of their own, as a model's settings name them. */
export interface SpecialIds {
  readonly eosTokenId?: number | undefined;
  readonly bosTokenId?: number | undefined;
  readonly padTokenId?: number | undefined;
}

/** What a tokenizer has to know of its model. */
export interface TokenizerLimits {
  readonly maxTokens: number;
  /** All ids must be below it. */
  readonly vocabularySize: number;
  /** Kinds of token that the model tells apart; `typeIds` are given when it does. */
  readonly tokenTypes?: number | undefined;
  readonly special?: SpecialIds | undefined;
  /** Where the definition is from, for messages. */
  readonly file: string;
}

/** Most words whose tokens are kept, and their longest: a text has most of its words in common with those before it. */
const KEPT_WORDS = 2 ** 16;
const KEPT_CHARACTERS = 32;

/**
 * A tokenizer whose sequences have at most `maxTokens` ids.
 * @throws CheckpointError when the definition is broken, gives what the model cannot read, or has a regular expression that
 * could run without end.
 */
export async function createTokenizer(definition: TokenizerDefinition, limits: TokenizerLimits): Promise<Tokenizer> {
  const { maxTokens, tokenTypes = 1, vocabularySize, special = {}, file } = limits;
  const { tokenizer, content } = built(definition, limits);
  checkSpecialTokens(tokenizer, limits);
  const fingerprint = await sha256(new TextEncoder().encode(content));
  const idOf = (token: string): number => idIn(tokenizer, token, file);
  const inOnePiece: IdReader = (text, most) => idsOfWords(tokenizer.words(text), idOf, most);
  const read = cutsAtBlanks(definition) ? byWords(inOnePiece) : inOnePiece;
  const tokensAround = [null, []].map((second) => tokenizer.around([], second).tokens.length);
  const spansOf = spanFinder(tokenizer, definition);
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
    specialTokens: specialTokensOf(definition),
    truncations: ['longest_first', 'only_first', 'only_second'],
    tokenIds: (text) => read(text, Infinity),
    decode: (ids) => tokenizer.decode(ids),
    join: (pieces) => tokenizer.join(pieces),
    encode(text, pair, options = {}) {
      const most = Math.min(options.maxTokens ?? maxTokens, maxTokens);
      const special = tokensAround[pair ? 1 : 0] as number;
      const limit = { most, special, truncation: options.truncation ?? 'longest_first' };
      const [first, second] = readPair(read, [text, pair], limit);
      const kept = shortened(tokenizer, first, second, limit);
      return {
        ...finished(kept),
        ...(options.spans && { spans: around(kept.tokens, keptSpans([text, pair], kept.counts, spansOf)) }),
      };
    },
    encodeWords(words, options = {}) {
      const most = Math.min(options.maxTokens ?? maxTokens, maxTokens);
      const ids: number[] = [];
      const wordOf: number[] = [];
      words.forEach((word, place) => {
        if (ids.length > most) return;
        for (const id of read(`${blank}${word}`, most)) {
          ids.push(id);
          wordOf.push(place);
        }
      });
      const limit = { most, special: tokensAround[0] as number, truncation: 'longest_first' } as const;
      const kept = shortened(tokenizer, ids, null, limit);
      return { ...finished(kept), words: around(kept.tokens, wordOf).map((word) => word ?? undefined) };
    },
  };
}

/** The ids of a text; once there are more than `most` the rest is not read. */
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
 * The ids of a text and its pair, as far as they decide what is kept: which of two long texts is the longer one may decide who keeps a
 * token more, and a text that may not be cut is read whole.
 */
function readPair(
  read: IdReader,
  [text, pair]: readonly [string, string | undefined],
  { most, truncation }: Limit,
): [number[], number[] | null] {
  if (!pair) return [read(text, truncation === 'only_second' ? Infinity : most), null];
  const first = read(text, truncation === 'only_second' ? Infinity : most);
  const second = read(pair, truncation === 'only_first' ? Infinity : most);
  const areBothLong = truncation === 'longest_first' && first.length > most && second.length > most;
  return areBothLong ? [read(text, Infinity), read(pair, Infinity)] : [first, second];
}

/** What a word begins with: the tokens of byte-level tokenizers have the blank before a word, unless they put one there themselves. */
function blankBeforeWords({ pre_tokenizer: cut }: TokenizerDefinition): '' | ' ' {
  const steps = [cut, ...[field(cut, 'pretokenizers') ?? []].flat()];
  const byteLevel = steps.find((step) => field(step, 'type') === 'ByteLevel');
  return byteLevel !== undefined && field(byteLevel, 'add_prefix_space') !== true ? ' ' : '';
}

function specialTokensOf({ added_tokens: added }: TokenizerDefinition): Map<string, number> {
  const tokens: unknown[] = Array.isArray(added) ? added : [];
  return new Map(
    tokens
      .filter((token) => field(token, 'special') === true)
      .map((token): [string, number] => [String(field(token, 'content')), Number(field(token, 'id'))])
      .filter(([token]) => token !== ''),
  );
}

/**
 * Whether the tokens of a text are those of its parts between blanks, whatever the text: BERT's are. Its characters become others one by
 * one, with the marks on them at most, and a token that was added may not have a blank inside.
 */
function cutsAtBlanks({ model, normalizer, pre_tokenizer: cut, added_tokens: added }: TokenizerDefinition): boolean {
  const isOf = (part: unknown, type: string): boolean => (part as { type?: unknown } | null)?.type === type;
  const plain = (token: unknown): boolean => /^[!-~]+$/.test(String((token as { content?: unknown } | null)?.content));
  return (
    isOf(model, 'WordPiece') &&
    model.fuse_unk !== true &&
    isOf(normalizer, 'BertNormalizer') &&
    isOf(cut, 'BertPreTokenizer') &&
    Array.isArray(added) &&
    added.every(plain)
  );
}

/** The ids of a text by its words, of which each is tokenised when it is first seen. */
function byWords(inOnePiece: IdReader): IdReader {
  const known = new Map<string, readonly number[]>();
  const idsOf = (word: string, most: number): readonly number[] => {
    const kept = known.get(word);
    if (kept) return kept;
    const ids = inOnePiece(word, most);
    if (word.length <= KEPT_CHARACTERS) {
      if (known.size === KEPT_WORDS) known.clear();
      known.set(word, ids);
    }
    return ids;
  };
  return (text, most) => {
    const ids: number[] = [];
    for (let start = 0; start <= text.length && ids.length <= most;) {
      const blank = text.indexOf(' ', start);
      const end = blank < 0 ? text.length : blank;
      for (const id of idsOf(text.slice(start, end), most)) ids.push(id);
      start = end + 1;
    }
    return ids;
  };
}

/** How long a sequence may be. */
interface Limit {
  readonly most: number;
  /** Tokens put around the texts. */
  readonly special: number;
  readonly truncation: Truncation;
}

/** A sequence, whether tokens were left out of it, and how many of each text stay. */
interface Shortened extends Sequence {
  readonly truncated: boolean;
  readonly counts: readonly [number, number];
}

/** The sequence of a text and its pair in at most `most` tokens, or as near as a text that may not be cut lets it come. */
function shortened(
  tokenizer: TextTokenizer,
  first: number[],
  second: number[] | null,
  { most, special, truncation }: Limit,
): Shortened {
  const room = Math.max(0, most - special);
  const [keptFirst, keptSecond] = keptLengths[truncation](first.length, second?.length ?? 0, room);
  const kept = tokenizer.around(first.slice(0, keptFirst), second && second.slice(0, keptSecond));
  const end = truncation === 'longest_first' ? most : kept.tokens.length;
  return {
    tokens: kept.tokens.slice(0, end),
    types: kept.types.slice(0, end),
    truncated: first.length + (second?.length ?? 0) + special > most,
    counts: [keptFirst, keptSecond],
  };
}

/** The spans of the tokens that stay of each text. */
function keptSpans(
  texts: readonly (string | undefined)[],
  counts: readonly number[],
  spansOf: (text: string, count: number) => TokenSpan[],
): TokenSpan[] {
  return texts.flatMap((text, place) => {
    const count = counts[place] ?? 0;
    return text ? spansOf(text, count) : [];
  });
}

/** What belongs to each token of a text, null for those around it, which stand there by name. */
function around<T>(tokens: Sequence['tokens'], ofText: readonly T[]): (T | null)[] {
  let next = 0;
  return tokens.map((token) => (typeof token === 'number' ? (ofText[next++] ?? null) : null));
}

const keptLengths: Readonly<Record<Truncation, typeof longestFirst>> = {
  longest_first: longestFirst,
  only_first: (first, second, room) => [Math.min(first, Math.max(1, room - second)), second],
  only_second: (first, second, room) => [first, Math.min(second, Math.max(1, room - first))],
};

/** How many tokens of each text stay in `room`: the longer gives way first, as with `truncation='longest_first'` of transformers. */
function longestFirst(first: number, second: number, room: number): [first: number, second: number] {
  const shorter = Math.min(first, second, Math.floor(room / 2));
  const longer = Math.min(Math.max(first, second), room - shorter);
  return first > second ? [longer, shorter] : [shorter, longer];
}

/** Whether a text is begun with a token. */
function begins(tokenizer: TextTokenizer, id: number | undefined): boolean {
  const [first] = tokenizer.around([0], null).tokens;
  return id !== undefined && typeof first === 'string' && tokenizer.idOf(first) === id;
}

function idIn(tokenizer: TextTokenizer, token: string, file: string): number {
  const id = tokenizer.idOf(token) ?? tokenizer.unknownId;
  if (id !== undefined) return id;
  throw new CheckpointError(
    `${file}: the vocabulary has no ${JSON.stringify(token)} and nothing for unknown tokens`,
    file,
  );
}

/** @throws CheckpointError when what is put around a text has no id, or a type that the model does not know. */
function checkSpecialTokens(tokenizer: TextTokenizer, { tokenTypes = 1, file }: TokenizerLimits): void {
  const around = [tokenizer.around([0], null), tokenizer.around([0], [0])];
  const special = around.flatMap(({ tokens }) => tokens).filter((token) => typeof token === 'string');
  const unknown = special.find((token) => tokenizer.idOf(token) === undefined);
  if (unknown !== undefined) {
    throw new CheckpointError(`${file}: the special token ${JSON.stringify(unknown)} has no id`, file);
  }
  if (tokenTypes === 1) return;
  const types = around.flatMap((own) => own.types);
  const odd = types.find((type) => !Number.isInteger(type) || type < 0 || type >= tokenTypes);
  if (odd === undefined) return;
  throw new CheckpointError(`${file}: token types must be 0 to ${tokenTypes - 1}, got ${odd}`, file);
}

function built(
  definition: TokenizerDefinition,
  { maxTokens, file }: TokenizerLimits,
): { tokenizer: TextTokenizer; content: string } {
  checkPatterns(definition, file);
  // The second text of a pair was once dropped where nothing is put around it: results of then are not those of now.
  const keepsPairs = field(definition.post_processor, 'type') === 'ByteLevel';
  try {
    const content = JSON.stringify({ definition, maxTokens, ...(keepsPairs && { pairs: 'both' }) });
    const tokenizer = openTextTokenizer(definition, file);
    Array.from(tokenizer.words('a')); // what is broken breaks here
    return { tokenizer, content };
  } catch (cause) {
    if (cause instanceof CheckpointError) throw cause;
    throw new CheckpointError(`${file}: not a tokenizer: ${reasonOf(cause)}`, file, cause);
  }
}
