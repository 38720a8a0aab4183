/**
 * Runs a tokenizer.json: finds added tokens, normalises the rest, splits it into words, and splits words into tokens.
 *
 * BPE, WordPiece and the regular expressions are those of '@huggingface/tokenizers'. Its pipeline, 0.2.0, gave the IDs
 * of Python's in 198 of 288 texts, the same decoded text in 241, and the same pairs in 15 of 36. It has no offsets,
 * which entities need, no `Precompiled` and `Nmt` normalizers, and three of five split behaviours.
 */
import { listField } from '../json.js';
import { addedTokenOf, sectionFinder, type AddedToken } from './added-tokens.js';
import { decoderOf } from './decoders.js';
import { part, unchanged, type Aligned } from './aligned.js';
import { modelOf } from './models.js';
import type { TokenModel } from './parts.js';
import { normalizerOf } from './normalizers.js';
import { postProcessorOf, type PostProcessor } from './post-processors.js';
import { preTokenizerOf } from './pre-tokenizers.js';

/** A token and its position in the text. */
export interface PlacedToken {
  /** The token. */
  readonly token: string;
  /** The text of an added token, including blanks that it matched. */
  readonly text?: string;
  /** The first character that it covers, in UTF-16 units. */
  readonly start: number;
  /** The end of the characters that it covers (exclusive). */
  readonly end: number;
}

/** A tokenizer, assembled from its parts. */
export interface TextTokenizer {
  /** The ID of the unknown token, if there is one. */
  readonly unknownId: number | undefined;
  /** The IDs of special tokens by their text. */
  readonly specialTokens: ReadonlyMap<string, number>;
  /** Returns the ID of a token; undefined if it is not in the vocabulary. */
  idOf(token: string): number | undefined;
  /** Returns the tokens of a text, lazily and word by word. */
  words(text: string): Iterable<readonly string[]>;
  /**
   * Returns the same tokens with their positions. As in Hugging Face's tokenizers, some cover nothing or repeat the
   * previous span.
   */
  placed(text: string): Iterable<readonly PlacedToken[]>;
  /** Adds special tokens to IDs. */
  readonly around: PostProcessor;
  /** Returns the text of an ID; undefined for an unknown one. That of a normalised added token is normalised. */
  textOf(id: number): string | undefined;
  /** Returns the text of IDs without special tokens. Unknown IDs are skipped. */
  decode(ids: readonly number[]): string;
  /** Returns the text of tokens. */
  join(tokens: readonly string[]): string;
}

/** Assembles a tokenizer. @throws CheckpointError when the definition is broken or has an unknown part. */
export function openTextTokenizer(definition: Readonly<Record<string, unknown>>, file: string): TextTokenizer {
  const normalizer = normalizerOf(definition.normalizer, file);
  const cut = preTokenizerOf(definition.pre_tokenizer, file);
  const model = keepingWords(modelOf(definition.model, file));
  const decoder = decoderOf(definition.decoder, file);
  const normalised = (text: string): string => normalizer?.(unchanged(text)).text ?? text;
  const tokens = listField(definition, 'added_tokens', file).map((token) => addedTokenOf(token, normalised, file));
  const ids = new Map(model.ids);
  for (const { content, id } of tokens) ids.set(content, id);
  const texts = new Map([...ids].map(([token, id]) => [id, token]));
  for (const { text, id } of tokens) texts.set(id, text);
  const special = tokens.filter((token) => token.special && token.content !== '');
  const specialTokens = new Map(special.map(({ content, id }) => [content, id]));
  const inText = sectionFinder(tokens.filter(({ normalized }) => !normalized));
  const inNormalised = sectionFinder(tokens.filter(({ normalized }) => normalized));
  const join = (pieces: readonly string[]): string => decoder?.(pieces).join('') ?? pieces.join(' ');
  const textsOf = (own: readonly number[]): string[] => own.flatMap((id) => texts.get(id) ?? []);

  /** Yields the added tokens of a text, and the texts between them. */
  function* parts(text: string): Generator<Part> {
    for (const { token: outer, text: section, start: offset } of inText(text)) {
      const own = unchanged(section);
      if (outer) {
        yield { token: outer, pieces: [own], offset };
        continue;
      }
      const whole = normalizer?.(own) ?? own;
      for (const { token, text: inner, start } of inNormalised(whole.text)) {
        const piece = part(whole, start, start + inner.length);
        yield { token, pieces: token ? [piece] : cut(piece, offset === 0), offset };
      }
    }
  }

  return {
    unknownId: model.unknownId,
    idOf: (token) => ids.get(token),
    around: postProcessorOf(definition.post_processor, file),
    join,
    textOf: (id) => texts.get(id),
    decode: (own) => join(textsOf(own).filter((text) => !specialTokens.has(text))),
    specialTokens,
    *words(text) {
      for (const { token, pieces } of parts(text)) {
        if (token) yield [token.content];
        else for (const piece of pieces) yield model.tokensOf(piece.text);
      }
    },
    *placed(text) {
      for (const { token, pieces, offset } of parts(text)) {
        for (const piece of pieces) {
          if (!token) yield placedTokens(model, piece, offset);
          else yield [{ ...placedAt(token.content, piece, [0, piece.text.length], offset), text: piece.text }];
        }
      }
    },
  };
}

/**
 * The limits of the cache of tokenised words, in words and in characters per word. Most words of a text occurred
 * before.
 */
const KEPT_WORDS = 2 ** 16;
const KEPT_CHARACTERS = 32;

/** Returns the model with a cache of the tokens of words. */
function keepingWords(model: TokenModel): TokenModel {
  const known = new Map<string, readonly string[]>();
  return {
    ...model,
    tokensOf(word) {
      const kept = known.get(word);
      if (kept) return kept;
      const tokens = model.tokensOf(word);
      if (word.length > KEPT_CHARACTERS) return tokens;
      if (known.size === KEPT_WORDS) known.clear();
      known.set(word, tokens);
      return tokens;
    },
  };
}

/** An added token, or a text between two. */
interface Part {
  readonly token: AddedToken | undefined;
  /** The added token, or the words of the text. Their origins count from `offset`. */
  readonly pieces: Iterable<Aligned>;
  readonly offset: number;
}

/** Returns the tokens of a word with their positions in a text that starts at `offset`. */
function placedTokens(model: TokenModel, word: Aligned, offset: number): PlacedToken[] {
  const tokens = model.tokensOf(word.text);
  const ends = model.endsOf(word.text, tokens);
  let [from, before] = [0, 0];
  return tokens.map((token, index) => {
    const end = ends[index] as number;
    if (end !== before) from = before; // tokens of the same character all cover it
    before = end;
    return placedAt(token, word, [from, end], offset);
  });
}

/** Returns a token with its position, given the units that it covers in a text that starts at `offset`. */
function placedAt(
  token: string,
  { origins }: Aligned,
  [from, to]: readonly [number, number],
  offset: number,
): PlacedToken {
  const { starts, ends } = origins();
  const [start = 0, end = start] = [starts[from], ends[to - 1]];
  return { token, start: offset + start, end: offset + end };
}
