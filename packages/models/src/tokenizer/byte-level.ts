/** Maps bytes to printable characters, as in GPT-2. Unprintable bytes become characters from 256 on. */

const CHARACTERS: string[] = [];
for (let byte = 0, unseen = 256; byte < 256; byte++) {
  const isUnseen = byte <= 32 || (byte >= 127 && byte <= 160) || byte === 173;
  CHARACTERS.push(String.fromCodePoint(isUnseen ? unseen++ : byte));
}
const BYTES = new Map(CHARACTERS.map((character, byte) => [character, byte]));

const encoder = new TextEncoder();

/** Returns the bytes of a text, each as a character. */
export function bytesAsCharacters(text: string): string {
  if (/^[!-~]*$/.test(text)) return text;
  return Array.from(encoder.encode(text), (byte) => CHARACTERS[byte]).join('');
}

/** Returns the byte of a character; -1 if it represents none. */
function byteOf(character: string): number {
  return BYTES.get(character) ?? -1;
}

/** Decodes tokens of a byte-level vocabulary to text. A piece with other characters is taken as plain text. */
export function bytesJoined(pieces: readonly string[]): string {
  const bytes = pieces.flatMap((piece) => {
    const own = Array.from(piece, byteOf);
    return own.includes(-1) ? [...encoder.encode(piece)] : own;
  });
  return new TextDecoder('utf-8', { ignoreBOM: true }).decode(Uint8Array.from(bytes));
}
