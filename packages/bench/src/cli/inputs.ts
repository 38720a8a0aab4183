import { existsSync, readdirSync, statSync } from 'node:fs';
import { basename, dirname, parse } from 'node:path';
import { DataError, didYouMean } from '@peftjs/core/method';
import type { StudyFlags } from './flags.js';

/** The flags that name a file. */
const FILES = ['config', 'train', 'dev'] as const;

/** The flags that name files and folders to read. */
type InputFlags = Pick<StudyFlags, (typeof FILES)[number] | 'data'>;

/**
 * Checks that every file and folder that the flags name exists, before anything is loaded.
 * @throws DataError that lists all that are missing, each with the nearest name in its folder; or for a folder in place
 * of a file.
 */
export function assertInputs(flags: InputFlags): void {
  const given = [...FILES, 'data' as const].flatMap((flag) => {
    const path = flags[flag];
    return path === undefined ? [] : [{ flag, path }];
  });
  const missing = given.filter(({ path }) => !existsSync(path));
  if (missing.length > 0) {
    const names = missing.map(({ flag, path }) => `--${flag} ${path}${nearestTo(path)}`);
    throw new DataError(`no such file or folder: ${names.join(', ')}`, missing[0]?.path);
  }
  for (const { flag, path } of given) {
    if ((flag === 'data') === statSync(path).isDirectory()) continue;
    const hint = flag === 'train' ? `; to use the files in it: --data ${path}` : '';
    throw new DataError(
      flag === 'data'
        ? `--data ${path} is a file, expected a folder; to train on it: --train ${path}`
        : `--${flag} ${path} is a folder, expected a file${hint}`,
      path,
    );
  }
}

/** Suggests an entry of the folder in which a path is missing: one that is close even without its extension. */
function nearestTo(path: string): string {
  const folder = dirname(path);
  if (!existsSync(folder)) return '';
  const near = readdirSync(folder).filter((name) => didYouMean(parse(path).name, [parse(name).name]) !== '');
  return didYouMean(basename(path), near);
}
