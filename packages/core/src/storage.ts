import { fileSource, type ByteSource } from '@peftjs/safetensors';
import { CheckpointError, UnsupportedError } from './errors.js';

/** Where files are read and written: a disk, memory, a page's store. Paths use '/'. */
export interface Storage {
  /** Whole file. @throws CheckpointError when it is missing. */
  read(path: string): Promise<Uint8Array>;
  /** A file to be read in pieces, where the storage can: weights are then never in memory twice. */
  open?(path: string): Promise<ByteSource>;
  exists(path: string): Promise<boolean>;
  /** Complete or absent: a reader never sees half a file. */
  write(path: string, bytes: Uint8Array): Promise<void>;
}

/** The disk, through Node's file system, which is loaded when first used. @throws UnsupportedError outside Node. */
export function diskStorage(): Storage {
  return {
    async read(path) {
      const { readFile } = await fileSystem();
      try {
        return await readFile(path);
      } catch (cause) {
        throw new CheckpointError(`cannot read ${path}: ${reason(cause)}`, path, cause);
      }
    },
    open: fileSource,
    async exists(path) {
      const { access } = await fileSystem();
      return access(path).then(
        () => true,
        () => false,
      );
    },
    async write(path, bytes) {
      try {
        await writeAtomically(path, bytes);
      } catch (cause) {
        throw new CheckpointError(`cannot write ${path}: ${reason(cause)}`, path, cause);
      }
    },
  };
}

/** Files in memory, by path: for a page, and for tests. */
export function memoryStorage(files = new Map<string, Uint8Array>()): Storage & { files: Map<string, Uint8Array> } {
  return {
    files,
    read(path) {
      const bytes = files.get(path);
      return bytes
        ? Promise.resolve(bytes)
        : Promise.reject(new CheckpointError(`cannot read ${path}: there is no such file in memory`, path));
    },
    exists: (path) => Promise.resolve(files.has(path)),
    write(path, bytes) {
      files.set(path, bytes.slice());
      return Promise.resolve();
    },
  };
}

/** A temporary file beside the target, flushed, then renamed over it. */
async function writeAtomically(path: string, bytes: Uint8Array): Promise<void> {
  const { mkdir, open, rename, rm } = await fileSystem();
  const folder = path.includes('/') ? path.slice(0, path.lastIndexOf('/')) : '.';
  await mkdir(folder || '/', { recursive: true });
  const temporary = `${path}.${Math.random().toString(36).slice(2)}.tmp`;
  try {
    const file = await open(temporary, 'wx');
    try {
      await file.writeFile(bytes);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
    await flushed(folder || '/');
  } catch (cause) {
    await rm(temporary, { force: true });
    throw cause;
  }
}

/** Makes a renaming last through a loss of power, where the system lets folders be flushed. */
async function flushed(folder: string): Promise<void> {
  const { open } = await fileSystem();
  const handle = await open(folder, 'r').catch(() => undefined);
  await handle?.sync().catch(() => undefined);
  await handle?.close();
}

async function fileSystem(): Promise<typeof import('node:fs/promises')> {
  try {
    return await import(/* @vite-ignore */ 'node:fs/promises');
  } catch (cause) {
    throw new UnsupportedError('there is no disk here: pass a `storage`, e.g. memoryStorage()', undefined, cause);
  }
}

/** Without the call that failed and the temporary name it failed on. */
function reason(cause: unknown): string {
  if (!(cause instanceof Error)) return String(cause);
  const { syscall } = cause as { readonly syscall?: unknown };
  const end = typeof syscall === 'string' ? cause.message.lastIndexOf(`, ${syscall}`) : -1;
  return end < 0 ? cause.message : cause.message.slice(0, end);
}
