import type { Storage } from '@peftjs/core';
import { CheckpointError } from '@peftjs/core/method';
import { bytesSource, type ByteSource } from '@peftjs/safetensors';
import { parseJson } from './json.js';

/** How far the weights have been read. */
export interface LoadProgress {
  /** The file just read from. */
  readonly file: string;
  readonly loadedBytes: number;
  /** What the checkpoint declares for all of its weights. */
  readonly totalBytes: number;
}

/** A folder with a model in it, read through a storage. */
export interface ModelFolder {
  readonly path: string;
  /** The path of a file in it, as messages show it. */
  pathOf(file: string): string;
  exists(file: string): Promise<boolean>;
  /** @throws CheckpointError when the file is missing. */
  bytes(file: string): Promise<Uint8Array>;
  /** A file read in pieces, where the storage can. @throws CheckpointError or SafetensorsError when the file is missing. */
  source(file: string): Promise<ByteSource>;
  /** @throws CheckpointError when the file is missing, larger than `limit` bytes or not JSON. */
  json(file: string, limit: number): Promise<unknown>;
  progress(progress: LoadProgress): void;
  /** @throws CheckpointError when weights of that many bytes do not fit into memory. */
  checkMemory(file: string, bytes: number): void;
}

/** How a folder is read. */
interface Reading {
  /** Told how far the weights have been read. */
  readonly onProgress?: ((progress: LoadProgress) => void) | undefined;
  /** What the weights may take, in bytes. */
  readonly memoryLimit?: number | undefined;
}

/** The folder at `path`. */
export function modelFolder(
  path: string,
  storage: Storage,
  { onProgress: progress = () => undefined, memoryLimit = Infinity }: Reading = {},
): ModelFolder {
  const pathOf = (file: string): string => joined(path, file);
  return {
    path,
    pathOf,
    progress,
    checkMemory: (file, bytes) => checkMemory('the model', bytes, memoryLimit, pathOf(file)),
    exists: (file) => storage.exists(pathOf(file)),
    bytes: (file) => storage.read(pathOf(file)),
    source: async (file) => storage.open?.(pathOf(file)) ?? bytesSource(await storage.read(pathOf(file))),
    json: async (file, limit) => parseJson(await atMost(limit, pathOf(file), storage), pathOf(file)),
  };
}

/** A whole file; where the storage tells sizes, one that is too large is not read. */
async function atMost(limit: number, path: string, storage: Storage): Promise<Uint8Array> {
  const source = (await storage.exists(path)) ? await storage.open?.(path) : undefined;
  try {
    const { size } = source ?? { size: 0 };
    const bytes = size > limit ? undefined : await (source?.read(0, size) ?? storage.read(path));
    if (bytes && bytes.length <= limit) return bytes;
    throw new CheckpointError(`${path}: expected at most ${limit} bytes, got ${bytes?.length ?? size}`, path);
  } finally {
    await source?.close?.();
  }
}

/** A file's path below a folder. */
export function joined(folder: string, file: string): string {
  if (folder === '') return file;
  if (file === '') return folder;
  return folder.endsWith('/') ? `${folder}${file}` : `${folder}/${file}`;
}

/**
 * Bytes of memory that can still be had: of the machine, and of the container that it may be. Undefined where nobody tells, as in
 * a page.
 */
export async function freeMemory(): Promise<number | undefined> {
  try {
    const { freemem } = await import(/* @vite-ignore */ 'node:os');
    const { constrainedMemory, memoryUsage } = globalThis.process;
    // Not what the system says of a container: that takes cached files for memory in use.
    return Math.min(freemem(), Math.max(0, constrainedMemory() - memoryUsage().rss) || Infinity);
  } catch {
    return undefined;
  }
}

/** @throws CheckpointError, with both figures, when something needs more memory than there is. */
export function checkMemory(what: string, bytes: number, limit: number, path: string): void {
  if (bytes <= limit) return;
  throw new CheckpointError(
    `${path}: ${what} takes ${gigabytes(bytes)} of memory, ${gigabytes(limit)} can be had: take a smaller model or a larger machine, or pass memoryLimit if you know better`,
    path,
  );
}

/** A size as people read it. */
function gigabytes(bytes: number): string {
  return bytes < 1e7 ? `${Math.ceil(bytes)} bytes` : `${(bytes / 1e9).toFixed(2)} GB`;
}
