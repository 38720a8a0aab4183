/** What the parts of a tokenizer.json share. */
import * as huggingFace from '@huggingface/tokenizers';
import { CheckpointError } from '@peftjs/core/method';
import { shown } from '../json.js';
import type { Aligned } from './aligned.js';

/** The models and regular expressions of a library, typed here: its own declarations name files in a way that NodeNext does not follow. */
export const library = huggingFace as unknown as {
  readonly BPE: new (definition: unknown) => LibraryModel;
  readonly WordPiece: new (definition: unknown) => LibraryModel;
  readonly SplitPreTokenizer: new (definition: object) => { readonly pattern: RegExp | null };
};

/** A model of the library: the tokens of words. */
export type LibraryModel = (words: string[]) => string[];

/** Changes a text before it is cut into words. */
export interface Normalizer {
  normalize(text: string): string;
  /** The same, of a text that knows where it is from. */
  aligned(text: Aligned): Aligned;
}

/** A vocabulary, and how a word is made of it. */
export interface TokenModel {
  readonly ids: Map<string, number>;
  readonly unknownId: number | undefined;
  /** The tokens of a word; a text that is none stands for an unknown one. */
  tokensOf(word: string): readonly string[];
  /** Where each of these tokens ends in the word, in its units; the next one begins there. */
  endsOf(word: string, tokens: readonly string[]): readonly number[];
}

/** A pattern of text or of a regular expression in Oniguruma's syntax. @throws CheckpointError for none. */
export function compiledPattern(pattern: unknown, file: string): RegExp {
  const compiled = new library.SplitPreTokenizer({ pattern, behavior: 'Isolated', invert: true }).pattern;
  if (compiled) return compiled;
  throw new CheckpointError(`${file}: expected a pattern of a String or a Regex, got ${shown(pattern)}`, file);
}

/** The error for a part of a kind that is not computed here. */
export function unknownPart(part: string, type: string, known: readonly string[], file: string): CheckpointError {
  return new CheckpointError(
    `${file}: not a tokenizer: unknown ${part} '${type}'; known ones are ${known.join(', ')}, Sequence`,
    file,
  );
}

/** A character that is a word's, as Rust's regular expressions have it. */
export const WORD = String.raw`\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}`;
