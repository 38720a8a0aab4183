/** Repositories of the hub as storages, for what reads models and adapters from folders. */
import type { Storage } from '@peftjs/core';
import { UnsupportedError } from '@peftjs/core/method';
import { checkMemory, joined } from '../folder.js';
import { TOKENIZER_FILES } from '../transformers/tokenizer.js';
import { openRepository, type HubFiles, type Repository } from './files.js';
import { HubError } from './request.js';
import type { HubOptions } from './options.js';
import type { RepoFile } from './snapshot.js';

/** A repository of the hub: its files are below `path` of `storage`. */
export interface HubFolder {
  readonly path: string;
  readonly storage: Storage;
}

/** Names of transformers: settings, tokenizer, and weights in one file or in shards. */
const SETTINGS = ['config.json', 'tokenizer.json'];
const WEIGHTS = 'model.safetensors';
const SHARDS = /^model(?:-\d{5}-of-\d{5})?\.safetensors(?:\.index\.json)?$/;

/** No file of a tokenizer is larger. */
const TOKENIZER_BYTES = 64 * 2 ** 20;

/**
 * The model of a hub id. Its tokenizer comes at once, with the files of it that an export takes along: none is missing where the
 * hub cannot be reached later. The others come as they are asked for; weights that cannot fit into memory are refused before.
 * @throws HubError as `hubFiles` does; the message says that there is no folder either.
 */
export async function hubModel(
  id: string,
  { subfolder = '', memoryLimit = Infinity, ...options }: HubOptions & HubModelOptions,
): Promise<HubFolder> {
  const repository = await opened(id, options);
  const needed = neededFiles(repository.listed, subfolder);
  const beside = tokenizerFiles(repository.listed, subfolder);
  const files = repository.files([...needed, ...beside]);
  const gone = await bring(files, beside);
  const weightBytes = needed.reduce((sum, { path, size }) => sum + (path.endsWith('.safetensors') ? size : 0), 0);
  const check = (path: string): void => {
    if (path.endsWith('.safetensors')) checkMemory('the model', weightBytes, memoryLimit, path);
  };
  return { path: joined(id, subfolder).replace(/\/$/, ''), storage: storageOf(files, { check, gone }) };
}

/** The repository of a hub id, of which nothing comes before it is asked for. @throws HubError as `hubModel` does. */
export async function hubFolder(id: string, options: HubOptions): Promise<HubFolder> {
  return { path: id, storage: storageOf((await opened(id, options)).files()) };
}

function opened(id: string, options: HubOptions): Promise<Repository> {
  return openRepository(id, 'model', options).catch((error: unknown) => {
    if (!(error instanceof HubError && (error.status !== undefined || error.isOffline))) throw error;
    throw new HubError(`there is no folder '${id}', and on the hub ${error.message}`, error);
  });
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

/** What a tokenizer has beside tokenizer.json. */
function tokenizerFiles(listed: readonly RepoFile[], subfolder: string): RepoFile[] {
  const isOther = (name: string): boolean => TOKENIZER_FILES.includes(name) && !SETTINGS.includes(name);
  return listed.filter(
    ({ path, size }) => folderOf(path) === subfolder && isOther(nameOf(path)) && size <= TOKENIZER_BYTES,
  );
}

/** Downloads what is not here yet. Gives the paths that the hub lists and does not have. */
async function bring(files: HubFiles, wanted: readonly RepoFile[]): Promise<Set<string>> {
  const gone = new Set<string>();
  for (const { path } of wanted) {
    try {
      await (await files.open(path)).close?.();
    } catch (error) {
      if (!(error instanceof HubError && error.status === 404)) throw error;
      gone.add(path);
    }
  }
  return gone;
}

function folderOf(path: string): string {
  return path.slice(0, Math.max(0, path.lastIndexOf('/')));
}

function nameOf(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1);
}

interface Reading {
  /** Called before a file is read. */
  readonly check?: (path: string) => void;
  /** Paths that are listed and not there. */
  readonly gone?: ReadonlySet<string>;
}

/** Reads a repository by paths that begin with its id, as messages show them. */
function storageOf(files: HubFiles, { check = () => undefined, gone = new Set() }: Reading = {}): Storage {
  const paths = new Set(files.files.map(({ path }) => path).filter((path) => !gone.has(path)));
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
