/** A model of the hub as a storage, for what reads models from folders. */
import { UnsupportedError, type Storage } from '@peftjs/core';
import { joined } from '../folder.js';
import { checkMemory } from '../memory.js';
import { openRepository, type HubFiles } from './files.js';
import { HubError } from './error.js';
import type { HubOptions } from './options.js';
import type { RepoFile } from './snapshot.js';

/** A repository of the hub that a model is read from: its files are below `path` of `storage`. */
export interface HubModel {
  readonly path: string;
  readonly storage: Storage;
}

/** Names of transformers: settings, tokenizer, and weights in one file or in shards. */
const SETTINGS = ['config.json', 'tokenizer.json'];
const WEIGHTS = 'model.safetensors';
const SHARDS = /^model(?:-\d{5}-of-\d{5})?\.safetensors(?:\.index\.json)?$/;

/**
 * The model of a hub id. Its files come as they are asked for; weights that cannot fit into memory are refused before.
 * @throws HubError as `hubFiles` does; the message says that there is no folder either.
 */
export async function hubModel(
  id: string,
  { subfolder = '', memoryLimit = Infinity, ...options }: HubOptions & HubModelOptions,
): Promise<HubModel> {
  const repository = await openRepository(id, 'model', options).catch((error: unknown) => {
    if (!(error instanceof HubError) || error.status === undefined) throw error;
    throw new HubError(`there is no folder '${id}', and on the hub ${error.message}`, error);
  });
  const needed = neededFiles(repository.listed, subfolder);
  const files = repository.files(needed);
  const weightBytes = needed.reduce((sum, { path, size }) => sum + (path.endsWith('.safetensors') ? size : 0), 0);
  const check = (path: string): void => {
    if (path.endsWith('.safetensors')) checkMemory('the model', weightBytes, memoryLimit, path);
  };
  return { path: joined(id, subfolder).replace(/\/$/, ''), storage: storageOf(files, check) };
}

interface HubModelOptions {
  readonly subfolder?: string | undefined;
  readonly memoryLimit?: number | undefined;
}

/** What reading a folder of transformers will ask for. */
function neededFiles(listed: readonly RepoFile[], subfolder: string): RepoFile[] {
  const inFolder = listed.filter(({ path }) => folderOf(path) === subfolder);
  const named = (names: readonly string[]) => inFolder.filter(({ path }) => names.includes(nameOf(path)));
  const inOne = named([WEIGHTS]);
  const weights = inOne.length > 0 ? inOne : inFolder.filter(({ path }) => SHARDS.test(nameOf(path)));
  return [...named(SETTINGS), ...weights];
}

function folderOf(path: string): string {
  return path.slice(0, Math.max(0, path.lastIndexOf('/')));
}

function nameOf(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1);
}

/** Reads a repository by paths that begin with its id, as messages show them. */
function storageOf(files: HubFiles, check: (path: string) => void): Storage {
  const paths = new Set(files.files.map(({ path }) => path));
  const inRepo = (path: string): string => path.slice(files.repo.length + 1);
  return {
    exists: (path) => Promise.resolve(paths.has(inRepo(path))),
    read(path) {
      check(path);
      return files.read(inRepo(path));
    },
    async open(path) {
      check(path);
      return files.open(inRepo(path));
    },
    write: (path) =>
      Promise.reject(new UnsupportedError(`${path} is on the hub, where nothing is written; write to a folder`, path)),
  };
}
