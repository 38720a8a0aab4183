import type { ByteSource } from '@peftjs/safetensors';
import { assertArgument } from './config.js';
import { CheckpointError } from './errors.js';
import { aMap, objectLike } from './kinds.js';

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
  /**
   * Replaces the files of folders such that each folder holds either all of its old files or all of the new ones,
   * whatever interrupts it: e.g. in one transaction. Without it, opening a folder whose save was interrupted reports
   * that.
   */
  writeFolders?(folders: readonly FolderFiles[]): Promise<void>;
}

/** The files of a folder that belong together. */
export interface FolderFiles {
  /** The configuration. A folder without it cannot be opened. */
  readonly config: StoredFile;
  /** All other files, in this folder or in a folder directly in it. */
  readonly others: readonly StoredFile[];
}

/** A file to write. */
export interface StoredFile {
  /** Its path in the storage. */
  readonly path: string;
  /** Its content. */
  readonly bytes: Uint8Array;
}

const WHAT = 'a storage, e.g. memoryStorage()';
/** A schema for storages that are only read. */
export const aReadStorage = objectLike<Storage>(WHAT, { read: 'function', exists: 'function' });
/** A schema for storages. */
export const aStorage = objectLike<Storage>(WHAT, { read: 'function', exists: 'function', write: 'function' });

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
      files.set(path, new Uint8Array(bytes)); // the slice of a Buffer is no copy
      return Promise.resolve();
    },
    writeFolders(folders) {
      const all = folders.flatMap(({ config, others }) => [...others, config]);
      for (const { path, bytes } of all) files.set(path, new Uint8Array(bytes));
      return Promise.resolve();
    },
  };
}

/**
 * Replaces a folder's configuration while its other files are rewritten. PEFT and transformers reject it as an unknown
 * type.
 */
const MARK = {
  peft_type: 'INCOMPLETE_SAVE',
  model_type: 'incomplete_save',
  incomplete_save: 'a save into this folder was cut short: open it with peftjs, which completes it, or save it again',
};

/** The last save of each storage that has no `writeFolders`. */
const lastSaves = new WeakMap<Storage, Promise<void>>();

/**
 * Replaces the files of folders such that a reader never mixes the files of two saves, also when several saves run at
 * once. Nothing is lost when a save fails or is killed, if the storage has `writeFolders`, as the disk does.
 * @throws CheckpointError when a file cannot be written.
 */
export async function writeFolders(storage: Storage, folders: readonly FolderFiles[]): Promise<void> {
  if (storage.writeFolders) return storage.writeFolders(folders);
  const before = lastSaves.get(storage) ?? Promise.resolve();
  const save = before.catch(() => undefined).then(() => writeMarked(storage, folders));
  lastSaves.set(storage, save);
  return save;
}

/**
 * Writes one file after the other, with a mark in the place of each configuration that is replaced. If the first file,
 * usually the largest, cannot be written, the folder is as before.
 */
async function writeMarked(storage: Storage, folders: readonly FolderFiles[]): Promise<void> {
  for (const files of folders) {
    const { path } = files.config;
    const old = (await storage.exists(path)) ? await storage.read(path) : undefined;
    const [mark, first, ...others] = stepsOf(files) as [StoredFile, StoredFile, ...StoredFile[]];
    if (old) await storage.write(path, mark.bytes);
    await storage.write(first.path, first.bytes).catch(async (error: unknown) => {
      if (old) await storage.write(path, old).catch(() => undefined);
      throw error;
    });
    for (const other of others) await storage.write(other.path, other.bytes);
  }
}

/** Returns what to write, in this order: the mark in the place of the configuration, the others, the configuration. */
export function stepsOf({ config, others }: FolderFiles): StoredFile[] {
  return [
    { path: config.path, bytes: new TextEncoder().encode(`${JSON.stringify(MARK, null, 2)}\n`) },
    ...others,
    config,
  ];
}

/** Matches the names of temporary files of storages on disk, which a killed process leaves. */
export const UNFINISHED_FILE = /\.[a-z]+\.[a-z0-9]+\.tmp$/;

/**
 * Returns what is wrong with a folder whose configuration is the mark of an interrupted save; undefined for any other.
 */
export function incompleteSave(config: unknown): string | undefined {
  const isMark = typeof config === 'object' && config !== null && 'incomplete_save' in config;
  return isMark ? 'a save into this folder was cut short: its files are of different saves; save it again' : undefined;
}
