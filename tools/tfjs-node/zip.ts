import { createWriteStream } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import { openPromise, type Entry } from 'yauzl';
import { BuildError } from './build-error.js';

/** An open zip file whose table of contents has been read. */
export interface Archive {
  /** Its files. No name leads out of the target folder. */
  readonly entries: readonly Entry[];
  /**
   * Unpacks one file as a stream.
   * @throws BuildError if it is damaged, or longer or shorter than the archive states.
   */
  extract(entry: Entry, target: string): Promise<void>;
  /** Closes the file. */
  close(): void;
}

/**
 * Opens an archive.
 * @throws BuildError if the file is not one, is damaged, or has names that lead out of the target folder.
 */
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

/** Returns a handler that ends the build with the cause and the archive or file that it affects. */
function failure(where: string): (cause: Error) => never {
  return (cause) => {
    throw new BuildError('failed', `${where}: ${cause.message}`, cause);
  };
}
