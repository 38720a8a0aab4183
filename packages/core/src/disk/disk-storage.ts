import { fileSource } from '@peftjs/safetensors';
import { CheckpointError, UnsupportedError } from '../errors.js';
import type { Storage } from '../storage.js';
import { folderOf, writeAtomically } from './files.js';
import { currentPath, replaceFolders } from './folder-save.js';

/** Returns a storage on disk. It loads Node's file system when first used. @throws UnsupportedError outside Node. */
export function diskStorage(): Storage {
  return {
    async read(path) {
      const fs = await fileSystem();
      try {
        return await fs.readFile(await currentPath(fs, path));
      } catch (cause) {
        throw new CheckpointError(`cannot read ${path}: ${reason(cause)}`, path, cause);
      }
    },
    open: async (path) => fileSource(await currentPath(await fileSystem(), path)),
    async exists(path) {
      const fs = await fileSystem();
      return fs.access(await currentPath(fs, path)).then(
        () => true,
        () => false,
      );
    },
    async write(path, bytes) {
      const fs = await fileSystem();
      try {
        await writeAtomically(fs, path, bytes);
      } catch (cause) {
        throw new CheckpointError(`cannot write ${path}: ${reason(cause)}`, path, cause);
      }
    },
    async writeFolders(folders) {
      const fs = await fileSystem();
      try {
        await replaceFolders(fs, folders);
      } catch (cause) {
        const path = folderOf(folders[0]?.config.path ?? '');
        throw new CheckpointError(
          `cannot save into ${path}: ${reason(cause)}; make room on the disk, make the folder writable or choose another one, then save again`,
          path,
          cause,
        );
      }
    },
  };
}

async function fileSystem(): Promise<typeof import('node:fs/promises')> {
  try {
    return await import(/* @vite-ignore */ 'node:fs/promises');
  } catch (cause) {
    throw new UnsupportedError('there is no disk here: pass a `storage`, e.g. memoryStorage()', undefined, cause);
  }
}

/** Returns an error's message without the system call and the temporary file's name. */
function reason(cause: unknown): string {
  if (!(cause instanceof Error)) return String(cause);
  const { syscall } = cause as { readonly syscall?: unknown };
  const end = typeof syscall === 'string' ? cause.message.lastIndexOf(`, ${syscall}`) : -1;
  return end < 0 ? cause.message : cause.message.slice(0, end);
}
