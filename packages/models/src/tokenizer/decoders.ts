/** The decoders of a tokenizer.json, which turn tokens back into text, as in Hugging Face's tokenizers 0.23. */
import { field } from '../json.js';
import { bytesJoined } from './byte-level.js';
import { growthCheck, replaced, totalLength, type GrowthCheck } from './growth.js';
import { compiledPattern, stepsOf, type Kinds } from './parts.js';

/** Converts tokens to pieces of text, which are then concatenated. */
export type Decoder = (tokens: readonly string[]) => readonly string[];

/** One change of tokens. A step that inserts texts of any length checks its own growth. */
type Step = (tokens: readonly string[], check: GrowthCheck) => readonly string[];

/**
 * Returns the decoder; null for a tokenizer without one. It throws a CheckpointError when it makes the text much longer
 * than its tokens.
 * @throws CheckpointError when it is unknown or broken.
 */
export function decoderOf(definition: unknown, file: string): Decoder | null {
  if (definition === null || definition === undefined) return null;
  const steps = stepsOf(definition, { part: 'decoder', list: 'decoders', kinds: KINDS }, file);
  return (tokens) => {
    const check = growthCheck('decoder', totalLength(tokens) + tokens.length, file);
    return steps.reduce((now, step) => {
      const next = step(now, check);
      check(totalLength(next));
      return next;
    }, tokens);
  };
}

const KINDS: Kinds<Step> = {
  BPEDecoder(definition) {
    const suffix = text(definition, 'suffix', '</w>');
    return (tokens) => tokens.map((token, at) => token.replaceAll(suffix, at === tokens.length - 1 ? '' : ' '));
  },
  ByteFallback: () => byteFallback,
  ByteLevel: () => (tokens) => [bytesJoined(tokens)],
  Fuse: () => (tokens) => [tokens.join('')],
  Metaspace(definition) {
    const mark = text(definition, 'replacement', '▁');
    const putsNone = field(definition, 'prepend_scheme') === 'never' || field(definition, 'add_prefix_space') === false;
    return (tokens) => tokens.map((token, at) => token.replaceAll(mark, at === 0 && !putsNone ? '' : ' '));
  },
  Replace(definition, file) {
    const pattern = compiledPattern(field(definition, 'pattern'), file);
    const content = text(definition, 'content', '');
    return (tokens, check) => {
      let length = 0;
      return tokens.map((token) => {
        const own = replaced(token, pattern, content, (grown) => check(length + grown));
        length += own.length;
        return own;
      });
    };
  },
  Strip(definition) {
    const content = text(definition, 'content', ' ');
    const [start, stop] = ['start', 'stop'].map((side) => Number(field(definition, side) ?? 0)) as [number, number];
    return (tokens) => tokens.map((token) => stripped(Array.from(token), content, start, stop));
  },
  WordPiece(definition) {
    const prefix = text(definition, 'prefix', '##');
    const cleans = field(definition, 'cleanup') !== false;
    return (tokens) =>
      tokens.map((token, at) => {
        const continues = token.startsWith(prefix);
        const piece = at === 0 ? token : continues ? token.slice(prefix.length) : ` ${token}`;
        return cleans ? cleaned(piece) : piece;
      });
  },
};

function text(definition: unknown, name: string, otherwise: string): string {
  const value = field(definition, name);
  return typeof value === 'string' ? value : otherwise;
}

/** Decodes each run of byte tokens as UTF-8. If it is invalid, each byte becomes a replacement character. */
function byteFallback(tokens: readonly string[]): string[] {
  const pieces: string[] = [];
  let bytes: number[] = [];
  const flush = (): void => {
    if (bytes.length > 0) pieces.push(utf8(bytes) ?? '\ufffd'.repeat(bytes.length));
    bytes = [];
  };
  for (const token of tokens) {
    const byte = /^<0x([0-9A-Fa-f]{2})>$/.exec(token)?.[1];
    if (byte !== undefined) bytes.push(Number.parseInt(byte, 16));
    else {
      flush();
      pieces.push(token);
    }
  }
  flush();
  return pieces;
}

function utf8(bytes: readonly number[]): string | undefined {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(Uint8Array.from(bytes));
  } catch {
    return undefined;
  }
}

/** Removes up to `start` and `stop` copies of a character from the two ends. */
function stripped(characters: readonly string[], content: string, start: number, stop: number): string {
  let from = 0;
  while (from < start && characters[from] === content) from++;
  let to = characters.length;
  while (to > from && to > characters.length - stop && characters[to - 1] === content) to--;
  return characters.slice(from, to).join('');
}

/** Removes the blanks that tokenising English leaves before punctuation. */
function cleaned(piece: string): string {
  return CLEANED.reduce((now, [from, to]) => now.replaceAll(from, to), piece);
}

const CLEANED: readonly (readonly [string, string])[] = [
  [' .', '.'],
  [' ?', '?'],
  [' !', '!'],
  [' ,', ','],
  [" ' ", "'"],
  [" n't", "n't"],
  [" 'm", "'m"],
  [' do not', " don't"],
  [" 's", "'s"],
  [" 've", "'ve"],
  [" 're", "'re"],
];
