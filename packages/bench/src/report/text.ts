const segmenter = new Intl.Segmenter('en', { granularity: 'grapheme' });

// Characters that take two columns: CJK, Hangul, full-width forms, and what is shown as a picture.
const WIDE =
  /[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6]|[\u{20000}-\u{3fffd}]|\p{Extended_Pictographic}|\p{Regional_Indicator}/u;

/** What a terminal or a line of text may show: no control characters, no changes of direction. */
export function printable(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]+/gu, ' ');
}

/** The same of several lines: names of tensors, say, from a stranger's file. */
export function printableLines(text: string): string {
  return text.split('\n').map(printable).join('\n');
}

/** Columns that a text without control characters takes in a terminal. */
export function displayWidth(text: string): number {
  return graphemes(text).reduce((width, { columns }) => width + columns, 0);
}

/** The text, or as much of its beginning as fits with an ellipsis. */
export function fitted(text: string, columns: number): string {
  if (displayWidth(text) <= columns) return text;
  let kept = '';
  let width = 1;
  for (const grapheme of graphemes(text)) {
    width += grapheme.columns;
    if (width > columns) break;
    kept += grapheme.text;
  }
  return columns < 1 ? '' : `${kept.trimEnd()}…`;
}

/** The text filled up with spaces. */
export function padded(text: string, columns: number): string {
  return text + ' '.repeat(Math.max(0, columns - displayWidth(text)));
}

function graphemes(text: string): { text: string; columns: number }[] {
  return [...segmenter.segment(text)].map(({ segment }) => ({ text: segment, columns: WIDE.test(segment) ? 2 : 1 }));
}
