/** A tokenizer.json as functions: added tokens are found, the rest is normalised and cut into words, and each word into tokens. */
import type { SpanTokenizer } from '../token-spans.js';
import { listField } from '../json.js';
import { addedTokenOf, sectionFinder, type AddedToken } from './added-tokens.js';
import { decoderOf } from './decoders.js';
import { modelOf } from './models.js';
import { normalizerOf } from './normalizers.js';
import { postProcessorOf, type PostProcessor } from './post-processors.js';
import { preTokenizerOf } from './pre-tokenizers.js';

/** The parts of a tokenizer, put together. */
export interface TextTokenizer extends SpanTokenizer {
  /** The tokens of a text word by word, each when it is asked for. */
  words(text: string): Iterable<readonly string[]>;
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
    normalizer,
    unknownId: model.unknownId,
    added: new Set(tokens.map(({ content }) => content)),
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
          else for (const word of cut({ text: section.text, isFirst })) yield model.tokensOf(word);
        }
      }
    },
  };
}
