import { existsSync, readdirSync, statSync } from 'node:fs';
import { basename, dirname, parse } from 'node:path';
import { DataError, didYouMean } from '@peftjs/core/method';
import type { StudyFlags } from './flags.js';

/** The flags that name files and folders to read. */
interface InputFlags extends Pick<StudyFlags, 'config' | 'train' | 'dev' | 'data'> {
  /** An earlier run, of a command that compares with one. */
  readonly spreadFrom?: string;
}

/** The flags that name a folder; the others name a file. */
const FOLDERS = ['data', 'spread-from'];

/** Flags for a file in place of a folder, and for a folder in place of a file. */
const HINTS: Readonly<Record<string, string>> = {
  data: 'to train on it: --train',
  train: 'to use the files in it: --data',
};

/**
 * Checks that every file and folder that the flags name exists, before anything is loaded.
 * @throws DataError that lists all that are missing, each with the nearest name in its folder; or for a folder in place
 * of a file.
 */
export function assertInputs(flags: InputFlags): void {
  const { config, train, dev, data, spreadFrom } = flags;
  const named = { config, train, dev, data, 'spread-from': spreadFrom };
  const given = Object.entries(named).flatMap(([flag, path]) => (path === undefined ? [] : [{ flag, path }]));
  const missing = given.filter(({ path }) => !existsSync(path));
  if (missing.length > 0) {
    const names = missing.map(({ flag, path }) => `--${flag} ${path}${nearestTo(path)}`);
    throw new DataError(`no such file or folder: ${names.join(', ')}`, missing[0]?.path);
  }
  for (const { flag, path } of given) {
    const isFolder = FOLDERS.includes(flag);
    if (isFolder === statSync(path).isDirectory()) continue;
    const problem = isFolder ? 'a file, expected a folder' : 'a folder, expected a file';
    const hint = HINTS[flag] === undefined ? '' : `; ${HINTS[flag]} ${path}`;
    throw new DataError(`--${flag} ${path} is ${problem}${hint}`, path);
  }
}

/** Suggests an entry of the folder in which a path is missing: one that is close even without its extension. */
function nearestTo(path: string): string {
  const folder = dirname(path);
  if (!existsSync(folder)) return '';
  const near = readdirSync(folder).filter((name) => didYouMean(parse(path).name, [parse(name).name]) !== '');
  return didYouMean(basename(path), near);
}
