import { createReadStream, existsSync, statSync } from 'node:fs';
import { ConfigError, DataError } from '@peftjs/core/method';

/** A text, or two that are read together. */
export interface GivenText {
  readonly text: string;
  readonly textPair?: string;
}

/** Where texts come from, as a command line says. */
export interface TextSource {
  /** Texts on the command line itself. */
  readonly texts: readonly string[];
  /** A file with a text in each line. */
  readonly file?: string | undefined;
  /** Whether a line holds two texts, with a tab between them. */
  readonly pairs?: boolean | undefined;
}

/** Most characters of a line: what is longer is no text. */
const MAX_LINE = 1_000_000;

/**
 * Checks where texts come from, before a model is loaded.
 * @throws ConfigError for texts from two places, or from none; DataError for a file that is missing.
 */
export function checkTextSource({ texts, file, pairs = false }: TextSource): void {
  if (texts.length > 0 && file !== undefined) {
    throw new ConfigError('give texts, or name a file of them by --file, not both', 'file');
  }
  if (texts.length === 0 && file === undefined && process.stdin.isTTY) {
    throw new ConfigError('missing: <text>, --file <file>, or texts on stdin, one in each line', 'text');
  }
  texts.forEach((text, index) => {
    if (text.trim() === '') throw new DataError(`text ${index + 1} is empty`, 'text');
    givenText(text, `text ${index + 1}`, pairs);
  });
  if (file === undefined) return;
  if (!existsSync(file)) throw new DataError(`${file}: there is no such file`, file);
  if (statSync(file).isDirectory()) throw new DataError(`${file}: expected a file, got a folder`, file);
}

/**
 * Texts in portions of at most `most`, as they come: of a file or a pipe no more is read than is asked for. Blank lines are no texts.
 * @throws DataError for a line that is too long, is no UTF-8 or not two texts, naming it.
 */
export async function* portions(
  { texts, file, pairs = false }: TextSource,
  most: number,
): AsyncGenerator<readonly GivenText[]> {
  if (texts.length > 0) {
    const given = texts.map((text, index) => givenText(text, `text ${index + 1}`, pairs));
    for (let at = 0; at < given.length; at += most) yield given.slice(at, at + most);
    return;
  }
  const name = file ?? 'stdin';
  const stream = (file === undefined ? process.stdin : createReadStream(file)) as AsyncIterable<Uint8Array>;
  for await (const lines of linesOf(stream, name)) {
    const given = lines
      .filter(({ line }) => line.trim() !== '')
      .map(({ line, number }) => givenText(line, `${name}:${number}`, pairs));
    for (let at = 0; at < given.length; at += most) yield given.slice(at, at + most);
  }
}

interface Line {
  readonly line: string;
  /** From 1. */
  readonly number: number;
}

/** The lines that each piece of a stream completes. */
async function* linesOf(stream: AsyncIterable<Uint8Array>, name: string): AsyncGenerator<Line[]> {
  const decoder = new TextDecoder('utf-8', { fatal: true });
  let rest = '';
  let number = 0;
  const whole = (text: string): Line[] => {
    const lines = (rest + text).split('\n');
    rest = lines.pop() ?? '';
    return lines.map((line) => ({ line: line.replace(/\r$/, ''), number: ++number }));
  };
  const decoded = (bytes?: Uint8Array): string => {
    try {
      return bytes ? decoder.decode(bytes, { stream: true }) : decoder.decode();
    } catch (cause) {
      throw new DataError(`${name}: expected text in UTF-8, got other bytes after line ${number}`, name, cause);
    }
  };
  for await (const bytes of stream) {
    yield whole(decoded(bytes));
    if (rest.length > MAX_LINE) {
      throw new DataError(`${name}:${number + 1}: expected at most ${MAX_LINE} characters in a line`, name);
    }
  }
  yield whole(`${decoded()}\n`);
}

function givenText(line: string, place: string, isPair: boolean): GivenText {
  if (!isPair) return { text: line };
  const [text = '', textPair = '', ...more] = line.split('\t');
  if (text.trim() !== '' && textPair.trim() !== '' && more.length === 0) return { text, textPair };
  throw new DataError(`${place}: expected two texts with a tab between them`, place);
}
