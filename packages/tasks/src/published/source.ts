import { DataError, type Storage } from '@peftjs/core';
import type { Protocol } from './protocol.js';

/** Reads a file of a data set on the hub, e.g. 'cola/train-00000-of-00001.parquet'. */
export type ReadHubFile = (path: string) => Promise<Uint8Array>;

/** How a published task is split. */
export interface PublishedTaskOptions {
  /** Default 'official': the training and development sets as published. */
  readonly protocol?: Protocol | undefined;
  /** Of the half-dev protocol. Default 42, the seed of the published split. */
  readonly seed?: number | undefined;
}

/** The first of some files that is there. @throws DataError when none is. */
export async function firstFile(paths: readonly string[], folder: string, storage: Storage): Promise<string> {
  for (const path of paths) {
    if (await storage.exists(`${folder}/${path}`)) return `${folder}/${path}`;
  }
  throw new DataError(`${folder}: expected one of ${paths.join(', ')} there, got none of them`, folder);
}
