import { fileSource, type ByteSource } from '@peftjs/safetensors';
import { assertArgument } from './config.js';
import { aMap, objectLike } from './kinds.js';
import { CheckpointError, UnsupportedError } from './errors.js';

/** A place where files are read and written, e.g. a disk, memory or a page's store. Paths use '/'. */
export interface Storage {
  /** Reads a whole file. @throws CheckpointError when it is missing. */
  read(path: string): Promise<Uint8Array>;
  /** Opens a file for reading in pieces, where the storage can, so that weights are never in memory twice. */
  open?(path: string): Promise<ByteSource>;
  /** Returns whether a file exists. */
  exists(path: string): Promise<boolean>;
  /** Writes a whole file. Readers see either all of it or none. */
  write(path: string, bytes: Uint8Array): Promise<void>;
}

/** A schema for storages. */
export const aStorage = objectLike<Storage>('a storage, e.g. memoryStorage()', {
  read: 'function',
  exists: 'function',
  write: 'function',
});

/** Returns a storage on disk. It loads Node's file system when first used. @throws UnsupportedError outside Node. */
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

/**
 * Returns a storage in memory, for pages and tests.
 * @param files the files, by path
 */
export function memoryStorage(files = new Map<string, Uint8Array>()): Storage & { files: Map<string, Uint8Array> } {
  assertArgument('files', files, aMap);
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

/** Writes a temporary file next to the target, flushes it, and renames it over the target. */
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

/** Makes a rename survive a power loss, on systems that can flush folders. */
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

/** Returns an error's message without the system call and the temporary file's name. */
function reason(cause: unknown): string {
  if (!(cause instanceof Error)) return String(cause);
  const { syscall } = cause as { readonly syscall?: unknown };
  const end = typeof syscall === 'string' ? cause.message.lastIndexOf(`, ${syscall}`) : -1;
  return end < 0 ? cause.message : cause.message.slice(0, end);
}

/**
 * Replaces a folder's configuration while its other files are rewritten. PEFT and transformers reject it as an unknown
 * type.
 */
const MARK = {
  peft_type: 'INCOMPLETE_SAVE',
  model_type: 'incomplete_save',
  incomplete_save: 'a save into this folder was cut short: its files are of different saves; save it again',
};

/** The files of a folder that belong together. */
export interface FolderFiles {
  /** The configuration. A folder without it cannot be opened. */
  readonly config: { readonly path: string; readonly bytes: Uint8Array };
  /** All other files, in the order of writing. */
  readonly others: readonly { readonly path: string; readonly bytes: Uint8Array }[];
}

/**
 * Writes a folder such that a reader never mixes the files of two saves: it first replaces an old configuration by a
 * mark, and writes the new one last. If the process is killed in between, opening the folder reports that.
 * @throws CheckpointError when a file cannot be written.
 */
export async function writeFolder(storage: Storage, { config, others }: FolderFiles): Promise<void> {
  if (await storage.exists(config.path)) {
    await storage.write(config.path, new TextEncoder().encode(`${JSON.stringify(MARK, null, 2)}\n`));
  }
  for (const { path, bytes } of others) await storage.write(path, bytes);
  await storage.write(config.path, config.bytes);
}

/**
 * Returns what is wrong with a folder whose configuration is the mark of an interrupted save; undefined for any other.
 */
export function incompleteSave(config: unknown): string | undefined {
  const isMark = typeof config === 'object' && config !== null && 'incomplete_save' in config;
  return isMark ? MARK.incomplete_save : undefined;
}
