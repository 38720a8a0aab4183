/** Tokens added to a vocabulary, e.g. `<mask>`. They are found in a text before it is split into words. */
import { CheckpointError } from '@peftjs/core/method';
import { field, shown } from '../json.js';
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
    throw new CheckpointError(`${file}: an added token needs a 'content', got ${shown(token)}`, file);
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

/** The tree of the tokens' texts, by UTF-16 unit: its nodes are numbered from the root, 0. */
interface Tree {
  /** The next node by `node * UNITS + unit`. */
  readonly next: Map<number, number>;
  /** The token whose text ends at a node. */
  readonly tokens: Map<number, AddedToken>;
}

const UNITS = 2 ** 16;
/** The maximum number of nodes: 65,536 tokens such as `<|s_12345|>` have 200,000. */
const MAX_NODES = 2 ** 20;

const ENDS_WITH_WORD = new RegExp(`[${WORD}]$`, 'u');
const BEGINS_WITH_WORD = new RegExp(`^[${WORD}]`, 'u');
const BLANK = /\p{White_Space}/u;

/**
 * Returns a function that splits a text at added tokens. The longest match wins.
 * @throws CheckpointError when the tokens' texts are too long.
 */
export function sectionFinder(tokens: readonly AddedToken[], file: string): (text: string) => Section[] {
  const tree = treeOf(tokens, file);
  return (text) => {
    const sections: Section[] = [];
    let read = 0;
    for (let at = 0; at < text.length;) {
      const found = longestAt(tree, text, at);
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

/** Of tokens with the same text, the last one counts. */
function treeOf(tokens: readonly AddedToken[], file: string): Tree {
  const tree: Tree = { next: new Map(), tokens: new Map() };
  for (const token of tokens) {
    let node = 0;
    for (let at = 0; at < token.text.length; at++) {
      const key = node * UNITS + token.text.charCodeAt(at);
      node = tree.next.get(key) ?? tree.next.size + 1;
      tree.next.set(key, node);
    }
    if (tree.next.size > MAX_NODES) {
      throw new CheckpointError(`${file}: the texts of the added tokens are too long, at ${shown(token.content)}`, file);
    }
    if (node !== 0) tree.tokens.set(node, token);
  }
  return tree;
}

function longestAt(tree: Tree, text: string, from: number): { token: AddedToken; end: number } | undefined {
  let found: { token: AddedToken; end: number } | undefined;
  let node: number | undefined = 0;
  for (let at = from; at < text.length; at++) {
    node = tree.next.get(node * UNITS + text.charCodeAt(at));
    if (node === undefined) break;
    const token = tree.tokens.get(node);
    if (token) found = { token, end: at + 1 };
  }
  return found;
}

function isWithinWord(text: string, start: number, end: number): boolean {
  const before = text.slice(Math.max(0, start - 2), start);
  return ENDS_WITH_WORD.test(before) || BEGINS_WITH_WORD.test(text.slice(end, end + 2));
}
