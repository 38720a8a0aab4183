import { createWriteStream } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import { openPromise, type Entry } from 'yauzl';
import { BuildError } from './build-error.js';

/** A zip file whose table of contents has been read. */
export interface Archive {
  /** Its files. No name leads out of the folder that they would be unpacked in. */
  readonly entries: readonly Entry[];
  /** Unpacks one file, piece by piece. @throws BuildError when it is damaged, or longer or shorter than the archive says. */
  extract(entry: Entry, target: string): Promise<void>;
  close(): void;
}

/** Opens an archive. @throws BuildError when it is none, is damaged, or has names that lead elsewhere. */
export async function openArchive(path: string): Promise<Archive> {
  const opened = await openPromise(path, { autoClose: false }).catch(failure(path));
  const close = (): void => {
    opened.close();
  };
  try {
    const entries: Entry[] = [];
    for await (const entry of opened.eachEntry()) entries.push(entry);
    return {
      entries,
      close,
      extract: (entry, target) =>
        opened
          .openReadStreamPromise(entry)
          .then((content) => pipeline(content, createWriteStream(target)))
          .catch(failure(`${path}: '${entry.fileName}'`)),
    };
  } catch (cause) {
    close();
    return failure(path)(cause as Error);
  }
}

/** Ends the build with what was wrong with the archive, or with one of its files. */
function failure(where: string): (cause: Error) => never {
  return (cause) => {
    throw new BuildError('failed', `${where}: ${cause.message}`, cause);
  };
}
