import { createRng, type Rng } from '@peftjs/core/method';

/** Pieces that break parsers: numbers at the limits, keys with a special meaning, stray JSON. */
const INTRUDERS = [
  ...['-1', '0', '1.5', '1e999', 'NaN', '9007199254740992', '18446744073709551615', '2147483647', '4294967296', 'null'],
  ...['""', '"__proto__"', '"__metadata__"', '"constructor"', '"F32"', '"I64"', '"shape"', '"data_offsets"', '"../x"'],
  ...['[', '{', ']', '}', ',', ':', '\\', '"', '\ud83d\ude00', '[[[[[[[[', '{"a":', 'true'],
];

const TOKENS = /"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?|[[\]{},:]/g;

/** Damaged copies of a JSON text, each with one to three faults; the same sequence for the same seed. */
export function* damagedTexts(original: string, count: number, seed: number): Generator<string> {
  const rng = createRng(seed);
  for (let index = 0; index < count; index++) {
    let text = original;
    for (let faults = 1 + rng.integer(3); faults > 0; faults--) text = damaged(text, rng);
    yield text;
  }
}

function damaged(text: string, rng: Rng): string {
  const at = rng.integer(text.length + 1);
  const length = rng.integer(40);
  switch (rng.integer(5)) {
    case 0: // replace a token by a piece
      return withToken(text, rng, () => pick(INTRUDERS, rng));
    case 1: // replace a token by another of the text
      return withToken(text, rng, (tokens) => pick(tokens, rng));
    case 2: // insert a piece
      return text.slice(0, at) + pick(INTRUDERS, rng) + text.slice(at);
    case 3: // delete or repeat a range
      return text.slice(0, at) + text.slice(at, at + length).repeat(2 * rng.integer(2)) + text.slice(at + length);
    default: // replace a character
      return text.slice(0, at) + String.fromCodePoint(rng.integer(0x2ff)) + text.slice(at + 1);
  }
}

function withToken(text: string, rng: Rng, choose: (tokens: readonly string[]) => string): string {
  const tokens = text.match(TOKENS) ?? [''];
  const place = rng.integer(tokens.length);
  const piece = choose(tokens);
  let index = 0;
  return text.replace(TOKENS, (token) => (index++ === place ? piece : token));
}

function pick<T>(items: readonly T[], rng: Rng): T {
  return items[rng.integer(items.length)] as T;
}
