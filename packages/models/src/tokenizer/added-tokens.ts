/** Tokens added to a vocabulary, e.g. `<mask>`. They are found in a text before it is split into words. */
import { field, fileError, shown } from '../json.js';
import { WORD } from './parts.js';

/** An added token in a tokenizer.json. */
export interface AddedToken {
  /** The name of the token. */
  readonly content: string;
  /** The text that it matches and is decoded to: `content`, normalised if `normalized` is set. */
  readonly text: string;
  /** Its ID. */
  readonly id: number;
  /** Whether it is a special token, which `decode` omits. */
  readonly special: boolean;
  /** Whether it is normalised, and matched in the normalised text. */
  readonly normalized: boolean;
  /** Whether it only matches whole words. */
  readonly singleWord: boolean;
  /** Whether it includes the blanks to its left. */
  readonly lstrip: boolean;
  /** Whether it includes the blanks to its right. */
  readonly rstrip: boolean;
}

/** Parses an added token of a tokenizer.json. @throws CheckpointError when it has no text. */
export function addedTokenOf(token: unknown, normalize: (text: string) => string, file: string): AddedToken {
  const content = field(token, 'content');
  if (typeof content !== 'string') {
    throw fileError(file, `an added token needs a 'content', got ${shown(token)}`);
  }
  const special = field(token, 'special') === true;
  const normalized = field(token, 'normalized') ?? !special;
  return {
    content,
    text: normalized === true ? normalize(content) : content,
    id: Number(field(token, 'id')),
    special,
    normalized: normalized === true,
    singleWord: field(token, 'single_word') === true,
    lstrip: field(token, 'lstrip') === true,
    rstrip: field(token, 'rstrip') === true,
  };
}

/** An added token in a text, or the text between two. */
export interface Section {
  /** The added token. Absent for the text between two. */
  readonly token?: AddedToken;
  /** The text of the section. */
  readonly text: string;
  /** The position of its first character, in UTF-16 units. */
  readonly start: number;
}

/** A range of sorted tokens: from `start` up to `end`. */
interface Range {
  readonly start: number;
  readonly end: number;
}

const ENDS_WITH_WORD = new RegExp(`[${WORD}]$`, 'u');
const BEGINS_WITH_WORD = new RegExp(`^[${WORD}]`, 'u');
const BLANK = /\p{White_Space}/u;

/**
 * Returns a function that splits a text at added tokens. The longest match wins, and of equal ones the last token. As in
 * Hugging Face's tokenizers, a token within the blanks that follow another token is found too; the text continues after
 * it.
 */
export function sectionFinder(tokens: readonly AddedToken[]): (text: string) => Section[] {
  const byText = new Map(tokens.map((token) => [token.text, token]));
  byText.delete('');
  const sorted = [...byText.values()].sort((a, b) => (a.text < b.text ? -1 : 1));
  const starts = new Map<number, Range>(); // most characters of a text begin no token
  for (const [at, token] of sorted.entries()) {
    const unit = token.text.charCodeAt(0);
    starts.set(unit, { start: starts.get(unit)?.start ?? at, end: at + 1 });
  }
  return (text) => {
    const sections: Section[] = [];
    let read = 0;
    for (let at = 0; at < text.length;) {
      const found = longestAt(sorted, starts, text, at);
      if (!found) {
        at++;
        continue;
      }
      const { token } = found;
      let [start, end] = [at, found.end];
      at = end;
      if (token.singleWord && isWithinWord(text, start, end)) continue;
      if (token.lstrip) while (start > read && BLANK.test(text.charAt(start - 1))) start--;
      if (token.rstrip) while (end < text.length && BLANK.test(text.charAt(end))) end++;
      if (read < start) sections.push({ text: text.slice(read, start), start: read });
      sections.push({ token, text: text.slice(start, end), start });
      read = end;
    }
    if (read < text.length) sections.push({ text: text.slice(read), start: read });
    return sections;
  };
}

/** Narrows a range of sorted tokens unit by unit. The first token of a range is the shortest. */
function longestAt(
  sorted: readonly AddedToken[],
  starts: ReadonlyMap<number, Range>,
  text: string,
  from: number,
): { token: AddedToken; end: number } | undefined {
  let found: { token: AddedToken; end: number } | undefined;
  let range = starts.get(text.charCodeAt(from));
  for (let length = 1; range && range.start < range.end; length++) {
    const token = sorted[range.start] as AddedToken;
    if (token.text.length === length) found = { token, end: from + length };
    if (from + length === text.length) break;
    const unit = text.charCodeAt(from + length);
    const start = firstFrom(sorted, range, length, unit);
    range = { start, end: firstFrom(sorted, { ...range, start }, length, unit + 1) };
  }
  return found;
}

/** Returns the first token of a range whose unit at a place is at least `unit`. */
function firstFrom(sorted: readonly AddedToken[], { start, end }: Range, place: number, unit: number): number {
  let [low, high] = [start, end];
  while (low < high) {
    const middle = (low + high) >> 1;
    const { text } = sorted[middle] as AddedToken;
    if (place < text.length && text.charCodeAt(place) >= unit) high = middle;
    else low = middle + 1;
  }
  return low;
}

function isWithinWord(text: string, start: number, end: number): boolean {
  const before = text.slice(Math.max(0, start - 2), start);
  return ENDS_WITH_WORD.test(before) || BEGINS_WITH_WORD.test(text.slice(end, end + 2));
}
