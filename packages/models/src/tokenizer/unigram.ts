/**
 * SentencePiece's unigram model (Kudo, 2018): splits a word into pieces of the vocabulary with the largest sum of
 * scores, which are log probabilities. Of equal splits, it prefers the one with longer pieces at the end. A character
 * without a piece scores 10 less than the worst piece.
 */
import { field, fileError, shown } from '../json.js';
import type { TokenModel } from './parts.js';

const UNKNOWN_PENALTY = 10;

/** Returns the model. @throws CheckpointError for pieces without a score, and an `unk_id` that is none of theirs. */
export function unigram(definition: unknown, file: string): TokenModel {
  const pieces = piecesOf(definition, file);
  const unknownId = unknownIdOf(definition, pieces.length, file);
  const ids = new Map(pieces.map(([piece], id) => [piece, id]));
  const scores = Float64Array.from(pieces, ([, score]) => score);
  const unknownScore = scores.reduce((least, score) => Math.min(least, score), Infinity) - UNKNOWN_PENALTY;
  const lengths = lengthsByStart(pieces);
  const fallsBack = field(definition, 'byte_fallback') === true;
  const fuses = field(definition, 'fuse_unk') !== false;

  /** Returns the pieces of a word, and whether each is in the vocabulary. */
  const cuts = (word: string): readonly (readonly [text: string, isKnown: boolean])[] => {
    const best = new Float64Array(word.length + 1).fill(-Infinity);
    const starts = new Int32Array(word.length + 1).fill(-1);
    const known = new Uint8Array(word.length + 1);
    best[0] = 0;
    const offer = (from: number, to: number, score: number, isKnown: number): void => {
      const total = (best[from] as number) + score;
      if (starts[to] !== -1 && total <= (best[to] as number)) return;
      best[to] = total;
      starts[to] = from;
      known[to] = isKnown;
    };
    for (let at = 0; at < word.length;) {
      const code = word.codePointAt(at) as number;
      const size = code > 0xffff ? 2 : 1;
      let isAlone = false;
      for (const length of lengths.get(code) ?? []) {
        if (at + length > word.length) break;
        const id = ids.get(word.slice(at, at + length));
        if (id === undefined) continue;
        offer(at, at + length, scores[id] as number, Number(id !== unknownId));
        isAlone ||= length === size;
      }
      if (!isAlone) offer(at, at + size, unknownScore, 0);
      at += size;
    }
    const found: (readonly [string, boolean])[] = [];
    for (let to = word.length; to > 0; to = starts[to] as number) {
      found.push([word.slice(starts[to], to), known[to] === 1]);
    }
    return found.reverse();
  };

  const bytesOf = (text: string): string[] | undefined => {
    const bytes = Array.from(new TextEncoder().encode(text), (byte) => `<0x${hex(byte)}>`);
    return bytes.every((byte) => ids.has(byte)) ? bytes : undefined;
  };

  const textsOf = (word: string): string[] => {
    const texts: string[] = [];
    let wasUnknown = false;
    for (const [text, isKnown] of cuts(word)) {
      if (!isKnown && wasUnknown && fuses) texts.push((texts.pop() ?? '') + text);
      else texts.push(text);
      wasUnknown = !isKnown;
    }
    return texts;
  };
  const tokensOfText = (text: string): string[] => (fallsBack && !ids.has(text) ? (bytesOf(text) ?? [text]) : [text]);

  return {
    ids,
    unknownId,
    tokensOf: (word) => (fallsBack ? textsOf(word).flatMap(tokensOfText) : textsOf(word)),
    endsOf(word) {
      let at = 0;
      return textsOf(word).flatMap((text) => {
        at += text.length;
        return tokensOfText(text).map(() => at);
      });
    },
  };
}

function hex(byte: number): string {
  return byte.toString(16).toUpperCase().padStart(2, '0');
}

function piecesOf(definition: unknown, file: string): readonly (readonly [string, number])[] {
  const vocabulary = field(definition, 'vocab');
  const isPiece = (entry: unknown): boolean =>
    Array.isArray(entry) && typeof entry[0] === 'string' && typeof entry[1] === 'number';
  if (Array.isArray(vocabulary) && vocabulary.length > 0 && vocabulary.every(isPiece)) {
    return vocabulary as [string, number][];
  }
  throw fileError(file, `not a tokenizer: expected pieces with scores, got ${shown(vocabulary)}`);
}

function unknownIdOf(definition: unknown, pieces: number, file: string): number | undefined {
  const id = field(definition, 'unk_id') ?? undefined;
  if (id === undefined || (Number.isInteger(id) && (id as number) >= 0 && (id as number) < pieces)) {
    return id as number | undefined;
  }
  throw fileError(file, `'unk_id' must be an integer from 0 to ${pieces - 1}, got ${shown(id)}`);
}

/** Returns the lengths of the pieces by their first character, the shortest first. */
function lengthsByStart(pieces: readonly (readonly [string, number])[]): Map<number, readonly number[]> {
  const lengths = new Map<number, Set<number>>();
  for (const [piece] of pieces) {
    const first = piece.codePointAt(0);
    if (first === undefined) continue;
    const own = lengths.get(first) ?? new Set();
    lengths.set(first, own.add(piece.length));
  }
  return new Map(Array.from(lengths, ([first, own]) => [first, [...own].sort((a, b) => a - b)]));
}
