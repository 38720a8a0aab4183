import { fileSource } from '@peftjs/safetensors';
import { CheckpointError, UnsupportedError } from '../errors.js';
import { nodeModule } from '../node.js';
import type { Storage } from '../storage.js';
import { reason, writeAtomically } from './files.js';
import { currentPath, readFile, replaceFolders, whereItIs } from './folder-save.js';

/** Returns a storage on disk. It loads Node's file system when first used. @throws UnsupportedError outside Node. */
export function diskStorage(): Storage {
  return {
    async read(path) {
      const fs = fileSystem();
      try {
        return await readFile(fs, path);
      } catch (cause) {
        throw new CheckpointError(`cannot read ${path}: ${reason(cause)}`, path, cause);
      }
    },
    open: async (path) => whereItIs(fileSystem(), path, fileSource),
    async exists(path) {
      const fs = fileSystem();
      return fs.access(await currentPath(fs, path)).then(
        () => true,
        () => false,
      );
    },
    async write(path, bytes) {
      const fs = fileSystem();
      try {
        await writeAtomically(fs, path, bytes);
      } catch (cause) {
        throw new CheckpointError(`cannot write ${path}: ${reason(cause)}`, path, cause);
      }
    },
    writeFolders: async (folders) => replaceFolders(fileSystem(), folders),
  };
}

function fileSystem(): typeof import('node:fs/promises') {
  const fs = nodeModule('node:fs/promises') as typeof import('node:fs/promises') | undefined;
  if (fs) return fs;
  throw new UnsupportedError('there is no disk here: pass a `storage`, e.g. memoryStorage()');
}
