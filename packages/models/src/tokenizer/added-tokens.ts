/** Tokens added to a vocabulary, e.g. `<mask>`. They are found in a text before it is split into words. */
import { field } from '../json.js';
import { WORD } from './parts.js';

/** An added token in a tokenizer.json. */
export interface AddedToken {
  /** The text of the token. */
  readonly content: string;
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

/** Parses an added token of a tokenizer.json. */
export function addedTokenOf(token: unknown): AddedToken {
  const special = field(token, 'special') === true;
  const normalized = field(token, 'normalized');
  return {
    content: String(field(token, 'content')),
    id: Number(field(token, 'id')),
    special,
    normalized: typeof normalized === 'boolean' ? normalized : !special,
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

interface Node {
  readonly next: Map<number, Node>;
  token?: AddedToken;
}

const ENDS_WITH_WORD = new RegExp(`[${WORD}]$`, 'u');
const BEGINS_WITH_WORD = new RegExp(`^[${WORD}]`, 'u');
const BLANK = /\p{White_Space}/u;

/** Returns a function that splits a text at added tokens, given by the text that they match. The longest match wins. */
export function sectionFinder(tokens: ReadonlyMap<string, AddedToken>): (text: string) => Section[] {
  const root: Node = { next: new Map() };
  for (const [content, token] of tokens) if (content !== '') insert(root, content, token);
  return (text) => {
    const sections: Section[] = [];
    let read = 0;
    for (let at = 0; at < text.length;) {
      const found = longestAt(root, text, at);
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
      if (end > read) sections.push({ token, text: text.slice(start, end), start });
      read = Math.max(read, end);
    }
    if (read < text.length) sections.push({ text: text.slice(read), start: read });
    return sections;
  };
}

function insert(root: Node, content: string, token: AddedToken): void {
  let node = root;
  for (let at = 0; at < content.length; at++) {
    const unit = content.charCodeAt(at);
    let next = node.next.get(unit);
    if (!next) node.next.set(unit, (next = { next: new Map() }));
    node = next;
  }
  node.token ??= token;
}

function longestAt(root: Node, text: string, from: number): { token: AddedToken; end: number } | undefined {
  let found: { token: AddedToken; end: number } | undefined;
  let node = root.next.get(text.charCodeAt(from));
  for (let end = from + 1; node; end++) {
    if (node.token) found = { token: node.token, end };
    node = end < text.length ? node.next.get(text.charCodeAt(end)) : undefined;
  }
  return found;
}

function isWithinWord(text: string, start: number, end: number): boolean {
  const before = text.slice(Math.max(0, start - 2), start);
  return ENDS_WITH_WORD.test(before) || BEGINS_WITH_WORD.test(text.slice(end, end + 2));
}
