import { CheckpointError, type Storage } from '@peftjs/core';
import { parseJson } from './json.js';

/** How far the weights have been read. */
export interface LoadProgress {
  /** The file just read. */
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
  /** @throws CheckpointError when the file is missing. */
  bytes(file: string): Promise<Uint8Array>;
  /** @throws CheckpointError when the file is missing, larger than `limit` bytes or not JSON. */
  json(file: string, limit: number): Promise<unknown>;
  progress(progress: LoadProgress): void;
}

/** The folder at `path`. */
export function modelFolder(
  path: string,
  storage: Storage,
  progress: (progress: LoadProgress) => void = () => undefined,
): ModelFolder {
  const pathOf = (file: string): string => joined(path, file);
  return {
    path,
    pathOf,
    progress,
    bytes: (file) => storage.read(pathOf(file)),
    async json(file, limit) {
      const bytes = await storage.read(pathOf(file));
      if (bytes.length > limit) {
        throw new CheckpointError(
          `${pathOf(file)}: expected at most ${limit} bytes, got ${bytes.length}`,
          pathOf(file),
        );
      }
      return parseJson(bytes, pathOf(file));
    },
  };
}

/** A file's path below a folder. */
export function joined(folder: string, file: string): string {
  if (folder === '') return file;
  return folder.endsWith('/') ? `${folder}${file}` : `${folder}/${file}`;
}
