/** Presents hub repositories as storages, for code that reads models and adapters from folders. */
import type { Storage } from '@peftjs/core';
import { UnsupportedError } from '@peftjs/core/method';
import type { WeightDtype } from '@peftjs/core/model';
import { checkMemory, joined, type Folder } from '../folder.js';
import { isEmbeddingFile, MODULES_FILE } from '../transformers/sentence-transformers.js';
import { TOKENIZER_FILES } from '../transformers/tokenizer.js';
import { openRepository, type HubFiles, type Repository } from './files.js';
import { HubError } from './request.js';
import type { HubOptions } from './options.js';
import type { RepoFile } from './snapshot.js';

/** The file names in transformers: settings, tokenizer, and weights in one file or in shards. */
const SETTINGS = ['config.json', 'tokenizer.json'];
const WEIGHTS = 'model.safetensors';
const SHARDS = /^model(?:-\d{5}-of-\d{5})?\.safetensors(?:\.index\.json)?$/;

/** Matches files of weights in any format. */
const HEAVY = /\.(?:safetensors|gguf|onnx(?:_data\w*)?)$/;

/** The maximum size of a file beside the settings and the weights, in bytes. */
const BESIDE_BYTES = 64 * 2 ** 20;

/** The folder of a repository. */
export interface HubFolder extends Folder {
  /** The commit of its files. */
  readonly commit: string;
  /** Whether it only has the files in the cache, which may lack some. */
  readonly isFromCache: boolean;
  /** Call this when a model has been read: until then, an earlier one in the cache is used without the hub. */
  readonly settle: () => Promise<void>;
}

/**
 * Opens a model by its hub ID. The files of the tokenizer, including those that an export copies, and of
 * sentence-transformers are downloaded at once, so none is missing if the hub cannot be reached later. The others are
 * downloaded on first use; weights that do not fit into memory are rejected before that.
 * @throws HubError like `hubFiles`; the message says that there is no local folder either.
 */
export async function hubModel(
  id: string,
  { subfolder = '', memoryLimit, dtype, ...options }: HubOptions & HubModelOptions,
): Promise<HubFolder> {
  const repository = await opened(id, options);
  const above = subfolder === '' ? '' : `${subfolder}/`;
  const needed = neededFiles(repository.listed, above);
  const beside = filesBeside(repository.listed, above);
  const files = repository.files({ expected: [...needed, ...beside], waits: true });
  const missing = await downloadAll(files, beside);
  const together = needed.filter(({ path }) => path.endsWith('.safetensors'));
  return folderOf(joined(id, subfolder), repository, files, { missing, together, memoryLimit, dtype });
}

/**
 * Opens a repository by its hub ID. Files are downloaded on first use; those of weights that do not fit into memory are
 * rejected before that.
 * @param waits Whether the caller calls `settle`.
 * @throws HubError like `hubModel`.
 */
export async function hubFolder(
  id: string,
  { memoryLimit, dtype, ...options }: HubOptions & InMemory,
  waits: boolean,
): Promise<HubFolder> {
  const repository = await opened(id, options);
  return folderOf(id, repository, repository.files({ waits }), { memoryLimit, dtype });
}

function folderOf(path: string, repository: Repository, files: HubFiles, reading: Reading): HubFolder {
  const { isFromCache, settle } = repository;
  return { path, storage: storageOf(files, reading), commit: files.commit, isFromCache, settle };
}

function opened(id: string, options: HubOptions): Promise<Repository> {
  return openRepository(id, 'model', options).catch((error: unknown) => {
    if (!(error instanceof HubError && (error.status !== undefined || error.isOffline))) throw error;
    throw new HubError(`there is no folder '${id}', and on the hub ${error.message}`, error);
  });
}

/** The smallest part of the bytes in a file that weights can take in memory: a file has at most four bytes for each. */
const SMALLEST: Readonly<Record<WeightDtype, number>> = { fp32: 1, q8: 1 / 4, q4: 1 / 8 };

/** How the weights of a model will be held in memory. */
export interface InMemory {
  /** The maximum memory for the weights, in bytes. Default: no limit. */
  readonly memoryLimit?: number | undefined;
  /** The format of the weights. Default 'fp32'. */
  readonly dtype?: WeightDtype | undefined;
}

interface HubModelOptions extends InMemory {
  readonly subfolder?: string | undefined;
}

/** Returns the files that a folder of transformers needs. Its path is `above`, with a slash at its end. */
function neededFiles(listed: readonly RepoFile[], above: string): RepoFile[] {
  const named = (isWanted: (name: string) => boolean): RepoFile[] =>
    listed.filter(({ path }) => path.startsWith(above) && isWanted(path.slice(above.length)));
  const inOne = named((name) => name === WEIGHTS);
  const weights = inOne.length > 0 ? inOne : named((name) => SHARDS.test(name));
  return [...named((name) => SETTINGS.includes(name)), ...weights];
}

/** Returns the tokenizer's files other than tokenizer.json, and those of sentence-transformers. */
function filesBeside(listed: readonly RepoFile[], above: string): RepoFile[] {
  const isEmbedder = listed.some(({ path }) => path === above + MODULES_FILE);
  const isOther = (name: string): boolean =>
    (TOKENIZER_FILES.includes(name) && !SETTINGS.includes(name)) || (isEmbedder && isEmbeddingFile(name));
  return listed.filter(
    ({ path, size }) => path.startsWith(above) && isOther(path.slice(above.length)) && size <= BESIDE_BYTES,
  );
}

/** Downloads the files that are not cached. Returns the paths that the hub lists but does not have. */
async function downloadAll(files: HubFiles, wanted: readonly RepoFile[]): Promise<Set<string>> {
  const missing = new Set<string>();
  for (const { path } of wanted) {
    try {
      await (await files.open(path)).close?.();
    } catch (error) {
      if (!(error instanceof HubError && error.status === 404)) throw error;
      missing.add(path);
    }
  }
  return missing;
}

interface Reading extends InMemory {
  /** The paths that the hub lists but does not have. */
  readonly missing?: ReadonlySet<string>;
  /** The weights in safetensors, which are held together. Default: each file is a model by itself. */
  readonly together?: readonly RepoFile[];
}

/** Returns a storage for a repository. Its paths start with the repository's ID, also in messages. */
function storageOf(
  { files: listed, repo, read, open }: HubFiles,
  { missing = new Set(), together = [], memoryLimit = Infinity, dtype = 'fp32' }: Reading,
): Storage {
  const sizes = new Map(listed.filter(({ path }) => !missing.has(path)).map(({ path, size }) => [path, size]));
  const weightBytes = together.reduce((sum, { size }) => sum + size, 0);
  /** Returns the path in the repository of a file that may be downloaded. */
  const checked = (path: string): string => {
    const own = path.slice(repo.length + 1);
    const bytes = path.endsWith('.safetensors') ? weightBytes : (sizes.get(own) ?? 0);
    if (HEAVY.test(path)) checkMemory('the model', bytes * SMALLEST[dtype], memoryLimit, path);
    return own;
  };
  return {
    exists: (path) => Promise.resolve(sizes.has(path.slice(repo.length + 1))),
    read: async (path) => read(checked(path)),
    open: async (path) => open(checked(path)),
    write: (path) =>
      Promise.reject(new UnsupportedError(`${path} is on the hub, which is read-only; write to a folder`, path)),
  };
}
