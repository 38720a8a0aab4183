/**
 * SentencePiece's table of replacements: `precompiled_charsmap`, in base64. It contains the size of a trie in bytes,
 * the trie as a double array of 32-bit units (Darts), and zero-terminated texts, found by their offset.
 *
 * As in Hugging Face's tokenizers, a grapheme of fewer than 6 bytes becomes the replacement of its *shortest* prefix in
 * the table, and the rest of it is lost. Other graphemes are replaced character by character. SentencePiece itself uses
 * the longest prefix.
 */
import { fileError, shown } from '../json.js';
import { transformed, type Change } from './aligned.js';
import type { Normalizer } from './parts.js';

/** Returns the normaliser. Without a table, it changes nothing. @throws CheckpointError for a broken table. */
export function precompiled(charsmap: unknown, file: string): Normalizer {
  if (charsmap === null || charsmap === undefined || charsmap === '') {
    return (text) => text;
  }
  const replacementOf = tableOf(charsmap, file);
  const known = new Map<string, readonly Part[]>();
  const partsOf = (grapheme: string): readonly Part[] => {
    const kept = known.get(grapheme);
    if (kept !== undefined) return kept;
    const bytes = encoder.encode(grapheme);
    const whole = bytes.length < 6 ? replacementOf(bytes) : undefined;
    const parts: readonly Part[] =
      whole === undefined
        ? Array.from(grapheme, (one) => ({ old: one, text: replacementOf(encoder.encode(one)) }))
        : [{ old: grapheme, text: whole }];
    if (known.size === MAX_KEPT) known.clear();
    known.set(grapheme, parts);
    return parts;
  };
  const segmenter = new Intl.Segmenter('en', { granularity: 'grapheme' });
  const graphemes = (text: string): string[] =>
    /^[ -~]*$/.test(text) ? Array.from(text) : Array.from(segmenter.segment(text), ({ segment }) => segment);
  const parts = (text: string): Part[] => graphemes(text).flatMap(partsOf);
  return (from) => {
    const all = parts(from.text);
    return transformed(from, all.map(({ old, text }) => text ?? old).join(''), () => changesOf(all));
  };
}

/** A part of a text and its replacement; undefined if it stays. */
interface Part {
  readonly old: string;
  readonly text: string | undefined;
}

/** Returns the changes of characters. Additional ones are inserted; missing ones are merged into the last. */
function changesOf(parts: readonly Part[]): Change[] {
  const changes: Change[] = [];
  for (const { old, text } of parts) {
    const before = Array.from(old).length;
    const characters = Array.from(text ?? old);
    characters.forEach((character, index) => changes.push([character, index < before ? 0 : 1]));
    const last = changes.pop();
    if (last) changes.push([last[0], last[1] + Math.min(0, characters.length - before)]);
  }
  return changes;
}

const encoder = new TextEncoder();
/** The maximum number of graphemes whose replacements are cached. */
const MAX_KEPT = 2 ** 14;

/** The maximum length of a replacement in bytes. SentencePiece's longest, that of U+FDFA, has 33. */
const MAX_REPLACEMENT = 500;

/** Returns a function that finds the replacement of the shortest prefix of bytes in the table. */
function tableOf(charsmap: unknown, file: string): (bytes: Uint8Array) => string | undefined {
  const bytes = typeof charsmap === 'string' ? fromBase64(charsmap) : undefined;
  const size = bytes && bytes.length >= 4 ? new DataView(bytes.buffer).getUint32(0, true) : 0;
  if (!bytes || size === 0 || size % 4 !== 0 || 4 + size > bytes.length) {
    throw fileError(file, `expected a precompiled_charsmap in base64, got ${shown(charsmap)}`);
  }
  const view = new DataView(bytes.buffer, 4, size);
  const unit = (at: number): number => (at >= 0 && at < size / 4 ? view.getUint32(4 * at, true) : 0);
  const texts = bytes.subarray(4 + size);
  const decoder = new TextDecoder();
  return (key) => {
    let node = offsetOf(unit(0));
    for (const byte of key) {
      if (byte === 0) return undefined;
      node ^= byte;
      const here = unit(node);
      if ((here & 0x800000ff) >>> 0 !== byte) return undefined;
      node ^= offsetOf(here);
      if (((here >>> 8) & 1) === 0) continue;
      const start = unit(node) & 0x7fffffff;
      const found = texts.subarray(start, start + MAX_REPLACEMENT + 1);
      const end = found.indexOf(0);
      if (end < 0 && found.length > MAX_REPLACEMENT) {
        throw fileError(file, `the precompiled_charsmap replaces by more than ${MAX_REPLACEMENT} bytes`);
      }
      return decoder.decode(found.subarray(0, end < 0 ? found.length : end));
    }
    return undefined;
  };
}

/** Returns the offset of a unit's children, relative to the unit. */
function offsetOf(unit: number): number {
  return (unit >>> 10) << ((unit & (1 << 9)) >>> 6);
}

function fromBase64(text: string): Uint8Array<ArrayBuffer> | undefined {
  try {
    return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  } catch {
    return undefined;
  }
}
