/**
 * The packages as npm would publish them, for tests that install tarballs into an empty folder as a user would install
 * from the registry.
 *
 *   const packed = await packPackages(folder);
 *   await npmInstall(project, [...tarballsOf(packed, ['@peftjs/core', '@peftjs/sora']), 'typescript']);
 *
 * Run `npm run build` first: it is not part of packing, so that the packages are built only once for all tests.
 */
import { execFile } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { ConfigError } from '@peftjs/core/method';

const run = promisify(execFile);

const repository = fileURLToPath(new URL('../..', import.meta.url));

/** A package as npm would publish it. */
export interface PackedPackage {
  /** The package's name. */
  readonly name: string;
  /** The version of the package. */
  readonly version: string;
  /** Path of its tarball. */
  readonly tarball: string;
  /** Bytes of the tarball. */
  readonly size: number;
  /** Paths inside it. */
  readonly files: readonly string[];
  /** The names of the packages of this repository that it depends on. */
  readonly siblings: readonly string[];
}

/**
 * Returns why packing is not possible yet, or undefined if every package has a build that is newer than its sources.
 */
export function missingBuild(): string | undefined {
  for (const folder of publishedFolders(repository)) {
    const build = join(folder, 'dist', 'index.js');
    if (!existsSync(build)) return 'the packages are not built; run: npm run build';
    const { mtimeMs } = statSync(build);
    if (sourcesOf(folder).some((file) => statSync(file).mtimeMs > mtimeMs)) {
      return 'the packages have changed since they were built; run: npm run build';
    }
  }
  return undefined;
}

/**
 * Packs every published package, or only some, of this repository or a copy of it, into a folder. Those of
 * this repository are instead taken from the folder PEFTJS_TARBALLS, which .ci/check has packed.
 */
export async function packPackages(
  into: string,
  { from = repository, only }: { readonly from?: string; readonly only?: readonly string[] } = {},
): Promise<PackedPackage[]> {
  const isWanted = ({ name }: { readonly name: string }): boolean => only?.includes(name) ?? true;
  const folders = publishedFolders(from).filter((folder) => isWanted(manifestOf(folder)));
  const ready = from === repository ? process.env['PEFTJS_TARBALLS'] : undefined;
  const list = ready
    ? readFileSync(join(ready, 'packed.json'), 'utf8')
    : (await npm(['pack', ...folders, '--json', '--pack-destination', into], into)).stdout;
  const packed = JSON.parse(list) as {
    readonly name: string;
    readonly version: string;
    readonly filename: string;
    readonly size: number;
    readonly files: readonly { readonly path: string }[];
  }[];
  const manifests = publishedManifests(from);
  const own = new Set(manifests.map(({ name }) => name));
  const siblings = new Map(
    manifests.map(({ name, dependencies = {} }) => [name, Object.keys(dependencies).filter((other) => own.has(other))]),
  );
  return packed.filter(isWanted).map(({ name, version, filename, size, files }) => ({
    name,
    version,
    tarball: join(ready ?? into, filename),
    size,
    files: files.map(({ path }) => path).sort(),
    siblings: siblings.get(name) ?? [],
  }));
}

/**
 * Returns the tarballs of some packages and of the packages of this repository that they need, as arguments of `npm
 * install`.
 */
export function tarballsOf(packed: readonly PackedPackage[], names: readonly string[]): string[] {
  const needed = new Set<string>();
  const need = (name: string): void => {
    const found = packed.find((each) => each.name === name);
    if (!found) throw new ConfigError(`this repository has no package '${name}'`, name);
    if (needed.has(found.tarball)) return;
    needed.add(found.tarball);
    found.siblings.forEach(need);
  };
  names.forEach(need);
  return [...needed];
}

/** Runs `npm install` on tarballs and packages of the registry, without install scripts. */
export async function npmInstall(folder: string, specs: readonly string[]): Promise<void> {
  const quiet = ['--ignore-scripts', '--no-audit', '--no-fund', '--prefer-offline', '--loglevel=error'];
  await npm(['install', ...quiet, ...specs], folder);
}

function npm(args: readonly string[], cwd: string): Promise<{ stdout: string }> {
  return run('npm', [...args], { cwd, maxBuffer: 1 << 26 });
}

/** The parts of a package.json that a release reads. */
interface Manifest {
  readonly name: string;
  readonly version: string;
  readonly dependencies?: Readonly<Record<string, string>>;
}

/** The package.json of every package that is published from a repository. */
export function publishedManifests(from: string): Manifest[] {
  return publishedFolders(from).map(manifestOf);
}

function publishedFolders(from: string): string[] {
  return readdirSync(join(from, 'packages')).map((name) => join(from, 'packages', name));
}

function manifestOf(folder: string): Manifest {
  return JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as Manifest;
}

function sourcesOf(folder: string): string[] {
  return readdirSync(join(folder, 'src'), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && !entry.name.endsWith('.test.ts'))
    .map((entry) => join(entry.parentPath, entry.name));
}
