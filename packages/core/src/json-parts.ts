/**
 * Counts the objects, lists and keys of a JSON text. Parsed, each takes dozens of bytes of memory, and as few as two
 * characters of the text.
 */
export function jsonParts(text: string): number {
  let parts = 0;
  for (let at = 0; at < text.length; at++) {
    const character = text[at];
    if (character === '{' || character === '[' || character === ':') parts++;
    if (character !== '"') continue;
    for (at++; at < text.length && text[at] !== '"'; at++) if (text[at] === '\\') at++;
  }
  return parts;
}
