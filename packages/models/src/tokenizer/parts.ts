/** Shared types and functions of the parts of a tokenizer.json. */
import * as huggingFace from '@huggingface/tokenizers';
import { field, fileError, listField, shown } from '../json.js';
import type { Aligned } from './aligned.js';

/**
 * The library's models and patterns. Typed here because NodeNext cannot resolve the imports in the library's own
 * declarations.
 */
export const library = huggingFace as unknown as {
  readonly BPE: new (definition: unknown) => LibraryModel;
  readonly WordPiece: new (definition: unknown) => LibraryModel;
  readonly SplitPreTokenizer: new (definition: object) => { readonly pattern: RegExp | null };
};

/** A model of the library: splits words into tokens. */
export type LibraryModel = (words: string[]) => string[];

/** Changes a text before it is split into words. */
export type Normalizer = (text: Aligned) => Aligned;

/** A vocabulary, and the algorithm that splits words into its tokens. */
export interface TokenModel {
  /** The token IDs by token. */
  readonly ids: Map<string, number>;
  /** The ID of the unknown token, if there is one. */
  readonly unknownId: number | undefined;
  /** Returns the tokens of a word. A result that is not in the vocabulary is an unknown token. */
  tokensOf(word: string): readonly string[];
  /** Returns where each of these tokens ends in the word, in UTF-16 units. The next token starts there. */
  endsOf(word: string, tokens: readonly string[]): readonly number[];
}

/**
 * Compiles a pattern: a text, or a regular expression in Oniguruma's syntax.
 * @throws CheckpointError when it is neither.
 */
export function compiledPattern(pattern: unknown, file: string): RegExp {
  const isPattern = ['Regex', 'String'].some((kind) => typeof field(pattern, kind) === 'string');
  const split = isPattern && new library.SplitPreTokenizer({ pattern, behavior: 'Isolated', invert: true });
  if (split && split.pattern) return split.pattern;
  throw fileError(file, `expected a pattern of a String or a Regex, got ${shown(pattern)}`);
}

/** Makes the step of each type, or several steps in order. */
export type Kinds<Step> = Readonly<Record<string, (definition: unknown, file: string) => Step | readonly Step[]>>;

/** The types of steps of a part, and the names of the part and of the list in its `Sequence`. */
interface StepKinds<Step> {
  readonly part: string;
  readonly list: string;
  readonly kinds: Kinds<Step>;
}

/**
 * Returns the steps of a part in order: none, one, or those of a `Sequence`, at any depth.
 * @throws CheckpointError when one is unknown or broken.
 */
export function stepsOf<Step>(definition: unknown, of: StepKinds<Step>, file: string): readonly Step[] {
  if (definition === null || definition === undefined) return [];
  const type = String(field(definition, 'type'));
  if (type === 'Sequence') return listField(definition, of.list, file).flatMap((one) => stepsOf(one, of, file));
  const make = Object.hasOwn(of.kinds, type) ? of.kinds[type] : undefined;
  if (make) return [make(definition, file)].flat() as Step[];
  const known = Object.keys(of.kinds).join(', ');
  throw fileError(file, `not a tokenizer: unknown ${of.part} '${type}'; known ones are ${known}, Sequence`);
}

/** The word characters of Rust's regular expressions. */
export const WORD = String.raw`\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}`;
