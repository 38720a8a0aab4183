import * as huggingFace from '@huggingface/tokenizers';
import { CheckpointError } from '@peftjs/core';
import { sha256 } from './fingerprint.js';

/** What a model reads of a text. */
export interface Encoding {
  readonly ids: number[];
  /** 0 for the first text, 1 for its pair, in models that tell them apart. */
  readonly typeIds?: number[];
}

/** Text to token ids. */
export interface Tokenizer {
  /** The ids of a text, or of a pair of texts in one sequence: never more than the model's `maxTokens`. */
  encode(text: string, pair?: string): Encoding;
  /** A hash of everything that decides the ids. */
  readonly fingerprint: string;
  readonly vocabularySize: number;
}

/** A tokenizer in the format of `tokenizer.json`. */
export interface TokenizerDefinition {
  readonly model: Readonly<Record<string, unknown>>;
  readonly [part: string]: unknown;
}

interface TextTokenizer {
  encode(text: string, options: { text_pair?: string }): { ids: number[] };
}

/** Typed here: the package's own declarations name their files without extensions, which NodeNext does not follow. */
const { Tokenizer: TextTokenizer } = huggingFace as unknown as {
  readonly Tokenizer: new (definition: TokenizerDefinition, config: object) => TextTokenizer;
};

/** Far more than a token covers (the longest word piece has 16): what comes after could not be read, but would be paid for. */
const CHARACTERS_PER_TOKEN = 64;

/**
 * A tokenizer whose sequences are cut at `maxTokens` ids.
 * @throws CheckpointError when the definition is broken.
 */
export async function createTokenizer(
  definition: TokenizerDefinition,
  { maxTokens, vocabularySize, file }: { maxTokens: number; vocabularySize: number; file: string },
): Promise<Tokenizer> {
  const tokenizer = built(definition, file);
  const fingerprint = await sha256(new TextEncoder().encode(JSON.stringify({ definition, maxTokens })));
  const readable = (text: string): string => text.slice(0, maxTokens * CHARACTERS_PER_TOKEN);
  return {
    fingerprint,
    vocabularySize,
    encode(text, pair) {
      const { ids } = tokenizer.encode(readable(text), pair === undefined ? {} : { text_pair: readable(pair) });
      return { ids: ids.slice(0, maxTokens) };
    },
  };
}

function built(definition: TokenizerDefinition, file: string): TextTokenizer {
  try {
    return new TextTokenizer(definition, {});
  } catch (cause) {
    throw new CheckpointError(`${file}: not a tokenizer: ${String(cause)}`, file, cause);
  }
}
