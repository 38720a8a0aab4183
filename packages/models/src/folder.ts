import type { Storage } from '@peftjs/core';
import { bytesSource, type ByteSource, type SafetensorsFile } from '@peftjs/safetensors';
import { fileError, parseJson } from './json.js';

/** The progress of loading weights. */
export interface LoadProgress {
  /** The file that was just read. */
  readonly file: string;
  /** The number of bytes loaded so far. */
  readonly loadedBytes: number;
  /** The size of all weights that the checkpoint declares, in bytes. */
  readonly totalBytes: number;
}

/** A folder in a storage. */
export interface Folder {
  /** The path of the folder in `storage`. */
  readonly path: string;
  /** Reads the folder. */
  readonly storage: Storage;
}

/** An open file of weights. */
export type WeightsFile = Pick<SafetensorsFile, 'names' | 'spec' | 'pieces' | 'close'>;

/** A model's folder in a storage. */
export interface ModelFolder extends Folder {
  /** Returns the path of a file, also for messages. */
  pathOf(file: string): string;
  /** Whether a file exists. */
  exists(file: string): Promise<boolean>;
  /** Reads a file. @throws CheckpointError when it is missing. */
  bytes(file: string): Promise<Uint8Array>;
  /**
   * Opens a file, to read in pieces if the storage can.
   * @throws CheckpointError or SafetensorsError when it is missing.
   */
  source(file: string): Promise<ByteSource>;
  /** Reads a JSON file. @throws CheckpointError when it is missing, larger than `limit` bytes or not JSON. */
  json(file: string, limit: number): Promise<unknown>;
  /** The file of the weights and how to open it. Default: as safetensors, in one file or in shards. */
  readonly weights?: { readonly name: string; open(): Promise<WeightsFile> };
  /** Whether it only has the files of a hub's cache, which may lack some. Default false. */
  readonly isFromCache?: boolean | undefined;
  /** Reports the progress of loading weights. */
  progress(progress: LoadProgress): void;
  /** @throws CheckpointError when weights of that many bytes do not fit into memory. */
  checkMemory(file: string, bytes: number): void;
}

/** Options of reading a folder. */
interface Reading {
  /** Called as weights are loaded. */
  readonly onProgress?: ((progress: LoadProgress) => void) | undefined;
  /** The maximum memory for the weights, in bytes. Default: no limit. */
  readonly memoryLimit?: number | undefined;
  /** See `ModelFolder`. */
  readonly isFromCache?: boolean | undefined;
}

/** Returns the folder at `path`. */
export function modelFolder(
  path: string,
  storage: Storage,
  { onProgress: progress = () => undefined, memoryLimit = Infinity, isFromCache }: Reading = {},
): ModelFolder {
  const pathOf = (file: string): string => joined(path, file);
  return {
    path,
    storage,
    isFromCache,
    pathOf,
    progress,
    checkMemory: (file, bytes) => checkMemory('the model', bytes, memoryLimit, pathOf(file)),
    exists: (file) => storage.exists(pathOf(file)),
    bytes: (file) => storage.read(pathOf(file)),
    source: async (file) => storage.open?.(pathOf(file)) ?? bytesSource(await storage.read(pathOf(file))),
    json: async (file, limit) => parseJson(await atMost(limit, pathOf(file), storage), pathOf(file)),
  };
}

/** Reads a JSON file; undefined if it is missing. @throws CheckpointError when it is too large or not JSON. */
export async function optionalJson(folder: ModelFolder, file: string, limit: number): Promise<unknown> {
  return (await folder.exists(file)) ? folder.json(file, limit) : undefined;
}

/** Reads a whole file. If the storage knows its size, a file that is too large is not read. */
async function atMost(limit: number, path: string, storage: Storage): Promise<Uint8Array> {
  const source = (await storage.exists(path)) ? await storage.open?.(path) : undefined;
  try {
    const { size } = source ?? { size: 0 };
    const bytes = size > limit ? undefined : await (source?.read(0, size) ?? storage.read(path));
    if (bytes && bytes.length <= limit) return bytes;
    throw fileError(path, `expected at most ${limit} bytes, got ${bytes?.length ?? size}`);
  } finally {
    await source?.close?.();
  }
}

/** What to do about files that are not in the cache. */
export const ONLINE = 'load the model once without localFilesOnly and HF_HUB_OFFLINE, with the hub in reach';

/** Returns what to do about weights that a folder does not have as safetensors, but may have `pickled`. */
export async function withoutWeights({ isFromCache, exists }: ModelFolder, pickled: string): Promise<string> {
  return isFromCache && !(await exists(pickled))
    ? `it is not in the cache; ${ONLINE}`
    : 'save the model as safetensors; pickled weights are not read';
}

/** Joins a folder and a file name to a path. */
export function joined(folder: string, file: string): string {
  if (folder === '') return file;
  if (file === '') return folder;
  return folder.endsWith('/') ? `${folder}${file}` : `${folder}/${file}`;
}

/** @throws CheckpointError when `what` needs more than `limit` bytes of memory; the message has both figures. */
export function checkMemory(what: string, bytes: number, limit: number, path: string): void {
  if (bytes <= limit) return;
  throw fileError(
    path,
    `${what} needs ${gigabytes(bytes)} of memory, the limit is ${gigabytes(limit)}: use a smaller model or a larger machine, or set memoryLimit`,
  );
}

/** Formats a size for people. */
function gigabytes(bytes: number): string {
  return bytes < 1e7 ? `${Math.ceil(bytes)} bytes` : `${(bytes / 1e9).toFixed(2)} GB`;
}
