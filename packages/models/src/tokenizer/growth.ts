import { fileError } from '../json.js';
/**
 * Limits on how much longer a part of a tokenizer.json makes a text, in UTF-16 units. A few steps of an untrusted file
 * could otherwise grow a short text without end. No step of a published tokenizer comes near the factors:
 *
 *   normalizer      20   NFKD, NFKC and SentencePiece's tables turn U+FDFA into 18 units, any other character into 8
 *   pre_tokenizer    8   a unit has at most 3 bytes, each a character; `▁` and a blank before a word add 4
 *   decoder          8   of the tokens' texts; a token gets at most a blank
 *
 * The spare units are for prefixes, such as `▁`.
 */

const FACTORS = { normalizer: 20, pre_tokenizer: 8, decoder: 8 } as const;
const SPARE = 100;

/** Checks the length of what a part has made of a text so far. @throws CheckpointError when it is too long. */
export type GrowthCheck = (length: number) => void;

/** Returns the check of what a part makes of a text of `from` units. */
export function growthCheck(part: keyof typeof FACTORS, from: number, file: string): GrowthCheck {
  const most = FACTORS[part] * from + SPARE;
  return (length) => {
    if (length <= most) return;
    throw fileError(
      file,
      `the ${part} makes more than ${most} characters of ${from}, which no known tokenizer does; remove the steps that insert text`,
    );
  };
}

/** Returns the number of units in several texts. */
export function totalLength(texts: Iterable<string>): number {
  let length = 0;
  for (const text of texts) length += text.length;
  return length;
}

/** Replaces each match of a pattern by `content`. Checks the length before the new text is built. */
export function replaced(text: string, pattern: RegExp, content: string, check: GrowthCheck): string {
  let { length } = text;
  return text.replace(pattern, (match: string) => {
    check((length += content.length - match.length));
    return content;
  });
}
