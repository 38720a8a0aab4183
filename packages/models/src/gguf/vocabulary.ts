/** The vocabulary of a GGUF file. */
import { fileError } from '../json.js';
import { metadataValue, type WithMetadata } from './config.js';

/** The kinds of tokens in `tokenizer.ggml.token_type`. */
export const TOKEN = { normal: 1, unknown: 2, control: 3, userDefined: 4, unused: 5, byte: 6 } as const;

/** The tokens of a file, and what a tokenizer.json needs of them. */
export interface Vocabulary {
  /** The tokens by ID. */
  readonly tokens: readonly string[];
  /** The kinds of tokens by ID, as in {@link TOKEN}; empty if the file has none. */
  readonly kinds: ArrayLike<unknown>;
  /** The special tokens, by their names in transformers. */
  readonly special: Readonly<Record<string, string>>;
  /** The IDs of the tokens that are in use. */
  readonly ids: Readonly<Record<string, number>>;
  /** The path of the file, for messages. */
  readonly path: string;
}

/** What a tokenizer.json has besides its added tokens. */
export interface TokenizerParts {
  readonly normalizer: object | null;
  readonly pre_tokenizer: object | null;
  /** The last step where neither a start nor an end token is added to a text. */
  readonly post_processor: object | null;
  readonly decoder: object;
  readonly model: object;
  /** Whether texts begin with the start token if the file does not say. */
  readonly begins: boolean;
  /** Whether an added token includes the blanks to its right. Default: none does. */
  readonly strips?: (token: string) => boolean;
}

/** Reads the vocabulary. @throws CheckpointError when it is missing. */
export function vocabularyOf(file: WithMetadata, path: string): Vocabulary {
  const tokens = textsOf(file, 'tokenizer.ggml.tokens', path);
  const kinds = (metadataValue(file, 'tokenizer.ggml.token_type') ?? []) as ArrayLike<unknown>;
  const used = tokens.map((token, id) => [token, id] as const).filter(([, id]) => kinds[id] !== TOKEN.unused);
  return { tokens, kinds, special: specialTokens(file, tokens), ids: Object.fromEntries(used), path };
}

/** Returns a list of strings. @throws CheckpointError when it is missing. */
export function textsOf(file: WithMetadata, key: string, path: string): readonly string[] {
  const entry = file.metadata.get(key);
  if (entry?.type === 'array' && entry.of === 'string') return entry.value;
  throw fileError(path, `'${key}' must be a list of strings`);
}

/** What the special tokens of transformers are called in `tokenizer.ggml.*_token_id`. */
export const SPECIAL_TOKENS = {
  bos_token: 'bos',
  eos_token: 'eos',
  unk_token: 'unknown',
  pad_token: 'padding',
} as const;

function specialTokens(file: WithMetadata, tokens: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    Object.entries(SPECIAL_TOKENS).flatMap(([name, key]) => {
      const token = tokens[metadataValue(file, `tokenizer.ggml.${key}_token_id`) as number];
      return token === undefined ? [] : [[name, token]];
    }),
  );
}
