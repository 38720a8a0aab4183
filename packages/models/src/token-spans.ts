/** The characters of a text that each token covers: the offsets of Hugging Face's tokenizers, in UTF-16 units. */
import { field } from './json.js';
import type { PlacedToken, TextTokenizer } from './tokenizer/text-tokenizer.js';

/** A token and the characters that it covers: `text.slice(start, end)`. */
export interface TokenSpan {
  /** The token in the vocabulary; for an unknown token, the text that it covers. */
  readonly piece: string;
  /** The first character that it covers, in UTF-16 units. */
  readonly start: number;
  /** The end of the characters that it covers (exclusive). */
  readonly end: number;
  /**
   * Whether the token continues the previous token's word. In a text, as in transformers: by the mark `##`, else if
   * there is no blank.
   */
  readonly continuesWord: boolean;
}

/** The parts of `tokenizer.json` used here. */
interface Definition {
  readonly model: Readonly<Record<string, unknown>>;
  readonly [part: string]: unknown;
}

interface Span {
  readonly start: number;
  readonly end: number;
}

const BLANK = ' ';

/** Returns a function that finds the spans of the first tokens of a text, at most `count`. */
export function spanFinder(
  { placed, idOf, textOf, unknownId }: Pick<TextTokenizer, 'placed' | 'idOf' | 'textOf' | 'unknownId'>,
  definition: Definition,
): (text: string, count: number) => TokenSpan[] {
  const { continuing_subword_prefix: mark } = definition.model;
  const prefix = typeof mark === 'string' ? mark : '';
  const trim = trimmer(definition);

  return (text, most) => {
    const tokens: PlacedToken[] = [];
    for (const own of placed(text)) {
      for (const token of own) tokens.push(token);
      if (tokens.length >= most) break;
    }
    return tokens.slice(0, most).map(({ token, text: own = token, ...span }, index) => {
      const { start, end } = trim(span, own, index);
      const covered = text.slice(start, end);
      const id = idOf(token) ?? unknownId;
      const isUnknown = id !== undefined && id === unknownId;
      const around = text.slice(Math.max(0, start - 1), start + 1);
      const continuesWord =
        !isUnknown && (prefix === '' ? start > 0 && !around.includes(BLANK) : count(token) !== count(covered));
      const piece = isUnknown ? covered : ((id === undefined ? undefined : textOf(id)) ?? token);
      return { piece, start, end, continuesWord };
    });
  };
}

/** Letters and digits; an ideograph is a word by itself. */
const LETTERS = String.raw`(?:(?!\p{Ideographic})[\p{L}\p{M}\p{N}\p{Cf}])+`;

/** What stands within numbers, as in 1,000 and 10:30. */
const IN_NUMBER = String.raw`(?<=\p{N})[,:/](?=\p{N})`;

/** A word, as data for taggers split texts. */
const WORD = new RegExp(
  [
    String.raw`(?:\p{L}\.){2,}(?:\p{L}(?![\p{L}\p{N}]))?`, // U.S. and U.S.A
    String.raw`['’]\p{L}{1,2}(?![\p{L}\p{N}])`, // the 's of Vienna's
    String.raw`(?:[OD]['’](?=\p{Lu}))?${LETTERS}(?:(?:[-.&]|${IN_NUMBER})${LETTERS})*`, // O'Brien, Anglo-American, AT&T
    String.raw`\S`,
  ].join('|'),
  'gu',
);

/** Returns the words of a text, and the first character of each. */
export function wordsIn(text: string): { readonly word: string; readonly start: number }[] {
  return Array.from(text.matchAll(WORD), ({ 0: word, index: start }) => ({ word, start }));
}

/** Returns the spans of a word's tokens in its text, where it begins at `start`. The word was read after `added` blanks. */
export function withinWord(spans: readonly TokenSpan[], start: number, added: number): TokenSpan[] {
  const inText = (place: number): number => start + Math.max(0, place - added);
  return spans.map((span, index) => ({
    ...span,
    start: inText(span.start),
    end: inText(span.end),
    continuesWord: index > 0,
  }));
}

/** Returns the number of code points in a text. */
function count(text: string): number {
  return Array.from(text).length;
}

/** The post-processors that trim blanks from spans. */
const TRIMMING: readonly unknown[] = ['ByteLevel', 'RobertaProcessing'];

/** Returns a function that trims the blanks at both ends of a span, if the tokenizer is set to. */
function trimmer({ post_processor: step }: Definition): (span: Span, token: string, index: number) => Span {
  const within = field(step, 'processors');
  const steps = [step, ...(Array.isArray(within) ? (within as unknown[]) : [])];
  const own = steps.find((one) => TRIMMING.includes(field(one, 'type')));
  if (own === undefined || field(own, 'trim_offsets') === false) return (span) => span;
  return ({ start, end }, token, index) => {
    const [leading = '', trailing = ''] = [/^[Ġ\s]*/u, /(?<![Ġ\s])[Ġ\s]*$/u].map((blanks) => blanks.exec(token)?.[0]);
    const isPrefix = field(own, 'add_prefix_space') !== false && (index === 0 || start === 0) && leading !== '';
    const from = Math.min(start + leading.length - Number(isPrefix), end);
    // Blanks alone cover nothing, also where the first one was added before another character.
    return { start: from, end: trailing === token ? from : Math.max(end - trailing.length, from) };
  };
}
