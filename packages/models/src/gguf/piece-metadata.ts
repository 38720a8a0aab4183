/** The metadata of a GGUF file for a tokenizer.json of SentencePiece: sentencepiece.ts, backwards. */
import type { MetadataValue } from '@peftjs/gguf';
import { field, fileError, listField } from '../json.js';
import { TOKENIZER_FILE } from '../transformers/tokenizer.js';
import { tokenizerFilesOf } from './tokenizer.js';
import { TOKEN } from './vocabulary.js';

/** Whether the tokenizer merges pieces and writes what is in none of them as bytes. */
export function hasPieces(definition: unknown): boolean {
  const model = field(definition, 'model');
  return field(model, 'type') === 'BPE' && field(model, 'byte_fallback') === true;
}

/** The texts of the tokens for single bytes. */
const BYTE = /^<0x[0-9A-F]{2}>$/;

/** Returns the entries of the metadata below `tokenizer.ggml`, and corrects the kinds of tokens. */
export function pieceEntries(
  definition: unknown,
  tokens: readonly string[],
  kinds: Int32Array,
): Record<string, MetadataValue> {
  const unknown = field(field(definition, 'model'), 'unk_token');
  for (const [id, token] of tokens.entries()) {
    if (token === unknown) kinds[id] = TOKEN.unknown;
    else if (BYTE.test(token)) kinds[id] = TOKEN.byte;
  }
  return {
    model: { type: 'string', value: 'llama' },
    pre: { type: 'string', value: 'default' },
    scores: { type: 'array', of: 'float32', value: scoresOf(definition, tokens) },
    add_space_prefix: { type: 'bool', value: JSON.stringify(field(definition, 'normalizer')).includes('Prepend') },
  };
}

/** Returns a score for each token: the earlier its merges, the higher; those without merges come last. */
function scoresOf(definition: unknown, tokens: readonly string[]): Float32Array {
  const pieces = formedPieces(definition);
  const places = new Map(pieces.map(({ piece }, place) => [piece, place] as const));
  return Float32Array.from(tokens, (token) => -(places.get(token) ?? pieces.length));
}

/** A piece, and the pairs that form it. */
interface FormedPiece {
  readonly piece: string;
  readonly pairs: string[];
}

/** Returns the pieces in the order of their merges, those of one piece in a row together and sorted. */
function formedPieces(definition: unknown): FormedPiece[] {
  const pieces: FormedPiece[] = [];
  for (const merge of listField(field(definition, 'model'), 'merges', TOKENIZER_FILE)) {
    const pair = Array.isArray(merge) ? merge.map(String) : String(merge).split(' ');
    const piece = pair.join('');
    if (pieces.at(-1)?.piece !== piece) pieces.push({ piece, pairs: [] });
    pieces.at(-1)?.pairs.push(pair.join(' '));
  }
  for (const { pairs } of pieces) pairs.sort();
  return pieces;
}

/** Cuts at blanks, of which none are left once they are replaced. */
const NO_CUT = { type: 'Split', pattern: { String: ' ' }, behavior: 'MergedWithPrevious', invert: false };

/**
 * Checks that the metadata describe the tokenizer: llama.cpp knows no merges, only scores, and can only put a blank
 * before texts.
 * @throws CheckpointError naming the part that a GGUF file cannot hold.
 */
export function assertSamePieces(
  definition: unknown,
  metadata: ReadonlyMap<string, MetadataValue>,
  architecture: string,
): void {
  const whole = new Map(metadata).set('general.architecture', { type: 'string', value: architecture });
  const held = tokenizerFilesOf({ metadata: whole }, TOKENIZER_FILE)[TOKENIZER_FILE];
  const parts: readonly [name: string, partOf: (tokenizer: unknown) => unknown][] = [
    ['normalizer', (tokenizer) => field(tokenizer, 'normalizer')],
    ['pre_tokenizer', (tokenizer) => cutOf(field(tokenizer, 'pre_tokenizer'))],
    ['added_tokens', (tokenizer) => listField(tokenizer, 'added_tokens', TOKENIZER_FILE).map(flagsOf)],
    ['merges', formedPieces],
  ];
  const lost = parts.find(([, partOf]) => JSON.stringify(partOf(definition)) !== JSON.stringify(partOf(held)));
  if (lost === undefined) return;
  throw fileError(
    TOKENIZER_FILE,
    `a GGUF file of llama.cpp cannot hold the '${lost[0]}' of this tokenizer: load the base model from its GGUF file, whose tokenizer is then copied`,
  );
}

function cutOf(step: unknown): unknown {
  return JSON.stringify(step) === JSON.stringify(NO_CUT) ? null : (step ?? null);
}

function flagsOf(token: unknown): unknown[] {
  return ['id', 'content', 'special', 'single_word', 'lstrip', 'rstrip', 'normalized'].map((name) =>
    field(token, name),
  );
}
