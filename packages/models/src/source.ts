import { diskStorage, type Storage } from '@peftjs/core';
import { ADAPTER_CONFIG, CheckpointError, ConfigError, UnsupportedError } from '@peftjs/core/method';
import type { CheckpointFormat } from './checkpoint.js';
import { joined } from './folder.js';
import { hubFolder, hubModel } from './hub/model-source.js';
import { checkPlainPath, isNode, type HubOptions } from './hub/options.js';
import { isHubId } from './hub/request.js';
import { useLiteFormat } from './tfjs/checkpoint.js';
import { transformersFormat } from './transformers/checkpoint.js';
import type { ModelType } from './transformers/config.js';

/** Finds the folder of an npm package. */
export type ResolvePackage = (name: string) => Promise<string>;

/** Where models are looked for. */
export interface SourceOptions extends HubOptions {
  /** Where folders are read. Default: the disk. */
  readonly storage?: Storage;
  /** Finds the folder of an npm package. Default: as Node does, from the working directory, then from this package. */
  readonly resolvePackage?: ResolvePackage;
  /** Where in the folder, the package or the repository the model lies. Default: at its top, or in `dist`. */
  readonly subfolder?: string;
  /**
   * Networks of transformers beside those of this package, for the `model_type` that each is named by; one of a name that is here
   * already takes its place. What they are made of is in `@peftjs/models/architectures`.
   */
  readonly modelTypes?: readonly ModelType[];
  /** Kinds of folder beside those of this package: a folder is held against them first. A model of the hub is one of transformers. */
  readonly formats?: readonly CheckpointFormat[];
}

/** Where a model lies, and as what. */
interface Location {
  readonly storage: Storage;
  readonly path: string;
  readonly format: CheckpointFormat;
}

/** Below a package's or a user's folder, where models are looked for. */
const SUBFOLDERS = ['', 'dist'];

const PACKAGE_NAME = /^(?:@[a-z0-9~-][\w.~-]*\/)?[a-z0-9~-][\w.~-]*$/i;

/**
 * Finds the model that a user means: a folder of that path, else an npm package of that name, else, of `organisation/name`, a
 * model of the Hugging Face hub. A folder that is there is never taken for one of the hub.
 * @param memoryLimit what the model may take, in bytes: a download that cannot fit is not begun.
 * @throws ConfigError for a source that can be none of them.
 * @throws CheckpointError when no model is found there.
 * @throws HubError when the hub has no such model, or cannot be asked.
 */
export async function locate(source: string, options: SourceOptions, memoryLimit?: number): Promise<Location> {
  const { subfolder = '' } = options;
  if (typeof source !== 'string' || source === '' || source.includes('\0')) {
    throw new ConfigError(
      `the model must be a folder, the name of an npm package or an id of the hub, got ${JSON.stringify(source)}`,
      'source',
    );
  }
  if (subfolder !== '') checkPlainPath('subfolder', subfolder, 'a folder below');
  const formats = formatsOf(options);
  const here = await locateHere(source, subfolder, formats, options);
  if (here) return here;
  if (!isHubId(source)) throw nothingIn(joined(source, subfolder), formats);
  const { path, storage } = await hubModel(source, { ...options, memoryLimit });
  const location = await modelIn(path, storage, formats);
  if (location) return location;
  throw nothingIn(path, formats);
}

/** A folder, and the storage that it is read through. */
export interface Folder {
  readonly path: string;
  readonly storage: Storage;
}

/**
 * The folder of an adapter, or of anything else, as users name it: one of that path, else, of `organisation/name`, a repository of
 * the Hugging Face hub, whose files come as they are read.
 * @throws HubError when the hub has no such repository, or cannot be asked.
 * @example
 * const { path, storage } = await openFolder('organisation/my-adapter');
 * const peft = await loadPretrained(model, path, { storage, methods: [lora] });
 */
export async function openFolder(
  source: string,
  { storage = defaultStorage(source), ...options }: HubOptions & { readonly storage?: Storage } = {},
): Promise<Folder> {
  if (storage && (!isHubId(source) || (await isThere(source, storage)))) return { path: source, storage };
  return hubFolder(source, options);
}

/** A memory knows files alone. */
async function isThere(folder: string, storage: Storage): Promise<boolean> {
  return (await storage.exists(folder)) || storage.exists(joined(folder, ADAPTER_CONFIG));
}

/** A model of this machine. */
async function locateHere(
  source: string,
  subfolder: string,
  formats: readonly CheckpointFormat[],
  { storage = defaultStorage(source), resolvePackage = installedPackage }: SourceOptions,
): Promise<Location | undefined> {
  if (!storage) return undefined;
  const folder = await modelIn(joined(source, subfolder), storage, formats);
  if (folder) return folder;
  if (isHubId(source) && (await storage.exists(source))) throw nothingIn(joined(source, subfolder), formats);
  if (!PACKAGE_NAME.test(source)) return undefined;
  const installed = await resolvePackage(source);
  const location = await modelIn(joined(installed, subfolder), storage, formats);
  if (location) return location;
  throw nothingIn(joined(installed, subfolder), formats);
}

/** The disk; a page has none, which is no matter for a model of the hub. */
function defaultStorage(source: string): Storage | undefined {
  return isNode() || !isHubId(source) ? diskStorage() : undefined;
}

/** Every kind of folder, in the order in which a folder is held against them. @throws ConfigError for a bad option. */
function formatsOf({ formats = [], modelTypes }: SourceOptions): readonly CheckpointFormat[] {
  return [...formats, useLiteFormat, transformersFormat(modelTypes)];
}

async function modelIn(
  path: string,
  storage: Storage,
  formats: readonly CheckpointFormat[],
): Promise<Location | undefined> {
  for (const subfolder of SUBFOLDERS) {
    for (const format of formats) {
      const candidate = subfolder === '' ? path : joined(path, subfolder);
      if (await storage.exists(joined(candidate, format.marker))) return { storage, path: candidate, format };
    }
  }
  return undefined;
}

function nothingIn(path: string, formats: readonly CheckpointFormat[]): CheckpointError {
  const known = formats.map(({ name, marker }) => `${marker} of ${name}`).join(', or ');
  return new CheckpointError(`no model in ${path}: expected ${known}, there or in dist`, path);
}

/**
 * The folder of an installed npm package, looked for from the working directory, then from this module.
 * @throws CheckpointError when it is not installed.
 * @throws UnsupportedError outside Node.
 */
async function installedPackage(name: string): Promise<string> {
  const createRequire = await requireFactory();
  const disk = diskStorage();
  for (const origin of [`${globalThis.process.cwd()}/`, import.meta.url]) {
    for (const modules of createRequire(origin).resolve.paths(name) ?? []) {
      if (await disk.exists(joined(joined(modules, name), 'package.json'))) return joined(modules, name);
    }
  }
  throw new CheckpointError(
    `no model '${name}': expected a folder with a model, an installed npm package or an id of the hub, organisation/name; if you mean the npm package of that name and trust it: npm install ${name}`,
    name,
  );
}

async function requireFactory(): Promise<typeof import('node:module').createRequire> {
  try {
    return (await import(/* @vite-ignore */ 'node:module')).createRequire;
  } catch (cause) {
    throw new UnsupportedError(
      'npm packages are found on a disk only: pass `resolvePackage`, or a folder of the `storage`',
      undefined,
      cause,
    );
  }
}
