import type { EntityGroup, LabelScore } from '@peftjs/pipelines';
import stringWidth from 'string-width';
import { fitted, padded, printable, printableLines } from '../format.js';
import type { GivenText } from './texts.js';

/** What a model predicts for a text: labels with their scores, entities found in it, its vector, or generated text. */
export type Answer =
  | { readonly labels: readonly LabelScore[] }
  | { readonly entities: readonly EntityGroup[] }
  | { readonly embedding: readonly number[] }
  | { readonly generated: string };

/** A text with the model's prediction; an empty text has none. */
export type Answered = GivenText & (Answer | { readonly text: '' });

/** Formats predictions as lines of output. */
export type AnswerWriter = (answers: readonly Answered[]) => string;

/** One line of JSON per text. */
export const jsonLines: AnswerWriter = (answers) => answers.map((answer) => `${JSON.stringify(answer)}\n`).join('');

/** The least width of the first column, in characters. It keeps the columns of successive portions of texts aligned. */
const MIN_WIDTH = 12;

/**
 * Formats predictions for people, up to `columns` characters wide. Labels, or the first numbers of a vector, come
 * before the text. Entities, with their offsets (start, and end exclusive), and generated text come below it.
 */
export function table(columns: number): AnswerWriter {
  let width = MIN_WIDTH;
  return (answers) => {
    const firsts = answers.map(firstColumn);
    width = Math.max(width, ...firsts.map((first) => stringWidth(first ?? '')));
    return answers.map((answer, index) => lines(answer, firsts[index], { width, columns })).join('');
  };
}

const GAP = '  ';

function lines(
  answer: Answered,
  first: string | undefined,
  { width, columns }: { readonly width: number; readonly columns: number },
): string {
  if (answer.text === '') return '\n';
  const text = printable(answer.textPair === undefined ? answer.text : `${answer.text} | ${answer.textPair}`);
  if (first !== undefined) {
    return `${padded(first, width)}${GAP}${fitted(text, Math.max(20, columns - width - GAP.length))}\n`;
  }
  if ('entities' in answer) {
    const entityLine = ({ entity_group: group, score, start, end }: EntityGroup): string =>
      ['', printable(group), printable(answer.text.slice(start, end)), `${start}-${end}`, number(score)].join(GAP);
    return [text, ...answer.entities.map(entityLine), ''].join('\n');
  }
  const generated = 'generated' in answer ? printableLines(answer.generated.trimEnd()) : '';
  return `${text}\n${generated.replace(/^/gm, GAP)}\n`;
}

/** The column before a text; undefined where the prediction comes below the text. */
function firstColumn(answer: Answered): string | undefined {
  if ('labels' in answer) {
    return answer.labels.map(({ label, score }) => `${printable(label)} ${number(score)}`).join(', ') || '-';
  }
  if (!('embedding' in answer)) return undefined;
  const { embedding } = answer;
  return `[${embedding.slice(0, 3).map(number).join(', ')}, .. ${embedding.length}]`;
}

function number(value: number): string {
  return value.toFixed(3);
}
