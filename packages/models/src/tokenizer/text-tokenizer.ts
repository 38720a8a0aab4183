/** A tokenizer.json as functions: added tokens are found, the rest is normalised and cut into words, and each word into tokens. */
import { listField } from '../json.js';
import { addedTokenOf, sectionFinder, type AddedToken } from './added-tokens.js';
import { decoderOf } from './decoders.js';
import { part, unchanged, type Aligned } from './aligned.js';
import { modelOf } from './models.js';
import type { TokenModel } from './parts.js';
import { normalizerOf } from './normalizers.js';
import { postProcessorOf, type PostProcessor } from './post-processors.js';
import { preTokenizerOf } from './pre-tokenizers.js';

/** A token, and where it is from in the text. */
export interface PlacedToken {
  readonly token: string;
  /** The text of an added token, which may have blanks around it. */
  readonly text?: string;
  readonly start: number;
  readonly end: number;
}

/** The parts of a tokenizer, put together. */
export interface TextTokenizer {
  readonly unknownId: number | undefined;
  idOf(token: string): number | undefined;
  /** The tokens of a text word by word, each when it is asked for. */
  words(text: string): Iterable<readonly string[]>;
  /** The same tokens with their places, as Hugging Face's tokenizers give them: some may cover nothing, or the same as the one before. */
  placed(text: string): Iterable<readonly PlacedToken[]>;
  /** Puts special tokens around ids. */
  readonly around: PostProcessor;
  /** The text of ids without special tokens; ids of no token are passed over. */
  decode(ids: readonly number[]): string;
  /** The text of tokens. */
  join(tokens: readonly string[]): string;
}

/** @throws CheckpointError for a definition that is broken or has a part that is not known. */
export function openTextTokenizer(definition: Readonly<Record<string, unknown>>, file: string): TextTokenizer {
  const normalizer = normalizerOf(definition.normalizer, file);
  const cut = preTokenizerOf(definition.pre_tokenizer, file);
  const model = modelOf(definition.model, file);
  const decoder = decoderOf(definition.decoder, file);
  const tokens = listField(definition, 'added_tokens', file).map(addedTokenOf);
  const ids = new Map(model.ids);
  for (const { content, id } of tokens) ids.set(content, id);
  const texts = new Map([...ids].map(([token, id]) => [id, token]));
  const special = new Set(tokens.filter((token) => token.special).map(({ id }) => id));
  const isNormalised = ({ normalized }: AddedToken): boolean => normalized && normalizer !== null;
  const found = (own: readonly AddedToken[], textOf: (content: string) => string) =>
    sectionFinder(new Map(own.map((token) => [textOf(token.content), token])));
  const inText = found(
    tokens.filter((token) => !isNormalised(token)),
    (content) => content,
  );
  const normalised = (text: string): string => normalizer?.normalize(text) ?? text;
  const inNormalised = found(tokens.filter(isNormalised), normalised);
  const join = (pieces: readonly string[]): string => decoder?.(pieces).join('') ?? pieces.join(' ');

  return {
    unknownId: model.unknownId,
    idOf: (token) => ids.get(token),
    around: postProcessorOf(definition.post_processor, file),
    join,
    decode: (own) => join(own.filter((id) => !special.has(id)).flatMap((id) => texts.get(id) ?? [])),
    *words(text) {
      for (const outer of inText(text)) {
        if (outer.token) {
          yield [outer.token.content];
          continue;
        }
        for (const section of inNormalised(normalised(outer.text))) {
          const isFirst = outer.start === 0 && section.start === 0;
          if (section.token) yield [section.token.content];
          else for (const word of cut.words({ text: section.text, isFirst })) yield model.tokensOf(word);
        }
      }
    },
    *placed(text) {
      for (const outer of inText(text)) {
        const end = outer.start + outer.text.length;
        if (outer.token) {
          yield [{ token: outer.token.content, text: outer.text, start: outer.start, end }];
          continue;
        }
        const own = unchanged(outer.text);
        const whole = normalizer?.aligned(own) ?? own;
        for (const section of inNormalised(whole.text)) {
          const piece = part(whole, section.start, section.start + section.text.length);
          const isFirst = outer.start === 0 && section.start === 0;
          if (section.token) {
            const place = placedAt(section.token.content, piece, [0, piece.text.length], outer.start);
            yield [{ ...place, text: section.text }];
          } else for (const word of cut.aligned({ ...piece, isFirst })) yield placedTokens(model, word, outer.start);
        }
      }
    },
  };
}

/** The tokens of a word whose text begins at `offset`. */
function placedTokens(model: TokenModel, word: Aligned, offset: number): PlacedToken[] {
  const tokens = model.tokensOf(word.text);
  const ends = model.endsOf(word.text, tokens);
  let [from, before] = [0, 0];
  return tokens.map((token, place) => {
    const end = ends[place] as number;
    if (end !== before) from = before; // several tokens of one character are all of its units
    before = end;
    return placedAt(token, word, [from, end], offset);
  });
}

/** A token of the units of a text that begins at `offset`. */
function placedAt(
  token: string,
  { starts, ends }: Aligned,
  [from, to]: readonly [number, number],
  offset: number,
): PlacedToken {
  const [start = 0, end = start] = [starts[from], ends[to - 1]];
  return { token, start: offset + start, end: offset + end };
}
