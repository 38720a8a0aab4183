import { createReadStream, existsSync, statSync } from 'node:fs';
import { ConfigError, DataError } from '@peftjs/core/method';

/** A text to predict for, or a pair that is read together. */
export interface GivenText {
  /** The text, or the first of the pair. */
  readonly text: string;
  /** The second text of the pair. */
  readonly textPair?: string;
}

/** Where the texts come from. */
export interface TextSource {
  /** Texts on the command line. */
  readonly texts: readonly string[];
  /** A file with one text per line. Default stdin, if there are no `texts`. */
  readonly file?: string | undefined;
  /** Whether each line holds two texts, separated by a tab. Default false. */
  readonly pairs?: boolean | undefined;
}

/** Joins the texts of pairs that are arguments of their own, as lines have them; leaves other texts as they are. */
export function pairedTexts(texts: readonly string[]): readonly string[] {
  if (texts.length % 2 === 1 || texts.some((text) => text.includes('\t'))) return texts;
  return texts.flatMap((text, at) => (at % 2 === 0 ? [`${text}\t${texts[at + 1]}`] : []));
}

/** The most bytes of a line: longer input is not text. */
const MAX_LINE = 1_000_000;

/**
 * Checks where the texts come from, before a model is loaded.
 * @throws ConfigError if texts come from two places, or from none; DataError for a missing file or an empty text.
 */
export function checkTextSource({ texts, file, pairs = false }: TextSource): void {
  if (texts.length > 0 && file !== undefined) {
    throw new ConfigError('give texts or --file, not both', 'file');
  }
  if (texts.length === 0 && file === undefined && process.stdin.isTTY) {
    throw new ConfigError('missing: <text>, --file <file>, or texts on stdin, one per line', 'text');
  }
  texts.forEach((text, index) => {
    if (text.trim() === '') throw new DataError(`text ${index + 1} is empty`, 'text');
    givenText(text, `text ${index + 1}`, pairs);
  });
  if (file === undefined) return;
  if (!existsSync(file)) throw new DataError(`${file}: no such file`, file);
  if (statSync(file).isDirectory()) throw new DataError(`${file}: expected a file, got a folder`, file);
}

/**
 * Yields texts in batches of at most `most`, as they arrive: of a file or a pipe, only as much is read as is asked
 * for. A blank line is an empty text, so that answers stay aligned with the lines.
 * @throws DataError with the line's number for a line that is too long, not UTF-8 or not two texts; also if there is no
 * text at all.
 */
export async function* textBatches(
  { texts, file, pairs = false }: TextSource,
  most: number,
): AsyncGenerator<readonly GivenText[]> {
  const name = file ?? 'stdin';
  const stream = (file === undefined ? process.stdin : createReadStream(file)) as AsyncIterable<Uint8Array>;
  const pieces = texts.length > 0 ? [texts.map((line, at) => ({ line, number: at + 1 }))] : linesOf(stream, name);
  let count = 0;
  for await (const lines of pieces) {
    const given = lines.map(({ line, number }) => {
      if (line.trim() === '') return { text: '' };
      return givenText(line, texts.length > 0 ? `text ${number}` : `${name}:${number}`, pairs);
    });
    count += given.filter(({ text }) => text !== '').length;
    for (let at = 0; at < given.length; at += most) yield given.slice(at, at + most);
  }
  if (count === 0) throw new DataError(`${name}: expected a text in each line, got none`, name);
}

/** A line of a file or of stdin. */
interface Line {
  /** The line without its line break. */
  readonly line: string;
  /** The number of the line, from 1. */
  readonly number: number;
}

/** Yields the lines that each piece of a stream completes. */
async function* linesOf(stream: AsyncIterable<Uint8Array>, name: string): AsyncGenerator<Line[]> {
  let rest = ''; // latin1 keeps bytes as they are, also those of a character that ends in the next piece
  let number = 0;
  const decoded = (bytes: string, at: number, goesOn = false): string => {
    try {
      return new TextDecoder('utf-8', { fatal: true }).decode(Buffer.from(bytes, 'latin1'), { stream: goesOn });
    } catch (cause) {
      throw new DataError(`${name}:${at}: expected UTF-8 text, got other bytes; save the file as UTF-8`, name, cause);
    }
  };
  const whole = (bytes: string): Line => ({ number: ++number, line: decoded(bytes, number).replace(/\r$/, '') });
  for await (const bytes of stream) {
    const lines = (rest + Buffer.from(bytes).toString('latin1')).split('\n');
    rest = lines.pop() ?? '';
    const read = lines.map(whole);
    decoded(rest, number + 1, true); // before any answer
    if (rest.length > MAX_LINE) {
      throw new DataError(`${name}:${number + 1}: expected lines of at most ${MAX_LINE} bytes`, name);
    }
    yield read;
  }
  if (rest !== '') yield [whole(rest)];
}

function givenText(line: string, place: string, isPair: boolean): GivenText {
  if (!isPair) return { text: line };
  const [text = '', textPair = '', ...more] = line.split('\t');
  if (text.trim() !== '' && textPair.trim() !== '' && more.length === 0) return { text, textPair };
  throw new DataError(`${place}: expected two texts separated by a tab`, place);
}
