import type { Storage } from '@peftjs/core';
import { CheckpointError } from '@peftjs/core/method';
import type { FileSizes } from '../lesson-files.js';

/**
 * Returns the site's files as a storage to load models from. The list of files is known in advance, because probing for
 * missing files would log errors in the browser's console.
 * @param root address of the folder, with a slash at its end
 * @param sizes bytes of every file in it, by path
 * @param signal ends downloads
 */
export function siteFiles(root: URL, sizes: FileSizes, signal: AbortSignal): Storage {
  return {
    exists: (path) => Promise.resolve(path in sizes),
    async read(path) {
      if (!(path in sizes)) throw new CheckpointError(`this site has no ${path}: reload the page`, path);
      return fetchBytes(new URL(path, root), signal);
    },
    write: (path) => Promise.reject(new CheckpointError(`cannot write ${path}: this site is read-only`, path)),
  };
}

/** Downloads a file of the site. @throws CheckpointError if that fails */
export async function fetchBytes(url: URL, signal: AbortSignal): Promise<Uint8Array> {
  try {
    const response = await fetch(url, { signal });
    if (!response.ok) throw new CheckpointError(`HTTP ${response.status}`, url.href);
    return new Uint8Array(await response.arrayBuffer());
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new CheckpointError(
      `cannot read ${url.href} (${reason}): check the connection and try again`,
      url.href,
      cause,
    );
  }
}
