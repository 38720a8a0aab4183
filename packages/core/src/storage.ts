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

/** Stands in a folder's configuration while its other files are written anew. PEFT and transformers know no such type, either. */
const MARK = {
  peft_type: 'INCOMPLETE_SAVE',
  model_type: 'incomplete_save',
  incomplete_save: 'a save into this folder was cut short: its files are of different saves; save it again',
};

/** The files of a folder, of which none means anything without all others. */
export interface FolderFiles {
  /** The configuration, without which nobody opens the folder. */
  readonly config: { readonly path: string; readonly bytes: Uint8Array };
  /** Everything else, in this order. */
  readonly others: readonly { readonly path: string; readonly bytes: Uint8Array }[];
}

/**
 * Writes a folder such that no reader ever takes files of two saves for one: an older configuration is replaced by a mark first,
 * and the new one comes last. Who is killed in between leaves a folder that says so when it is opened.
 * @throws CheckpointError when a file cannot be written.
 */
export async function writeFolder(storage: Storage, { config, others }: FolderFiles): Promise<void> {
  if (await storage.exists(config.path)) {
    await storage.write(config.path, new TextEncoder().encode(`${JSON.stringify(MARK, null, 2)}\n`));
  }
  for (const { path, bytes } of others) await storage.write(path, bytes);
  await storage.write(config.path, config.bytes);
}

/** What is wrong with a folder whose configuration this is, where a save into it was cut short. */
export function incompleteSave(config: unknown): string | undefined {
  const isMark = typeof config === 'object' && config !== null && 'incomplete_save' in config;
  return isMark ? MARK.incomplete_save : undefined;
}
