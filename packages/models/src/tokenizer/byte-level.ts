/** Bytes written as characters, as GPT-2 has them: those that cannot be seen are written by characters from 256 on. */

const CHARACTERS: string[] = [];
for (let byte = 0, unseen = 256; byte < 256; byte++) {
  const isUnseen = byte <= 32 || (byte >= 127 && byte <= 160) || byte === 173;
  CHARACTERS.push(String.fromCodePoint(isUnseen ? unseen++ : byte));
}
const BYTES = new Map(CHARACTERS.map((character, byte) => [character, byte]));

const encoder = new TextEncoder();

/** The bytes of a text, each written as a character. */
export function bytesAsCharacters(text: string): string {
  if (/^[!-~]*$/.test(text)) return text;
  return Array.from(encoder.encode(text), (byte) => CHARACTERS[byte]).join('');
}

/** The byte of a character in a vocabulary of bytes; -1 for a character that stands for none. */
function byteOf(character: string): number {
  return BYTES.get(character) ?? -1;
}

/** The text of tokens in a vocabulary of bytes; a piece that is no such token is a text. */
export function bytesJoined(pieces: readonly string[]): string {
  const bytes = pieces.flatMap((piece) => {
    const own = Array.from(piece, byteOf);
    return own.includes(-1) ? [...encoder.encode(piece)] : own;
  });
  return new TextDecoder('utf-8', { ignoreBOM: true }).decode(Uint8Array.from(bytes));
}
