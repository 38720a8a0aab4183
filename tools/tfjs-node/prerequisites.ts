import { existsSync } from 'node:fs';
import { access, constants, statfs } from 'node:fs/promises';
import { delimiter, dirname, join } from 'node:path';
import { BuildError } from './build-error.js';

/** The platform of a process. */
export interface Platform {
  /** The operating system, as `process.platform`. */
  readonly platform: string;
  /** The processor architecture, as `process.arch`. */
  readonly arch: string;
  /** Version of glibc; undefined if the system has another C library. */
  readonly glibc: string | undefined;
}

/** Returns the platform of this process. */
export function thisPlatform(): Platform {
  const { header } = process.report.getReport() as { header: { glibcVersionRuntime?: string } };
  return { platform: process.platform, arch: process.arch, glibc: header.glibcVersionRuntime };
}

/** Checks the platform. @throws BuildError for anything but Linux on x64 with glibc. */
export function checkPlatform({ platform, arch, glibc }: Platform): void {
  if (platform === 'linux' && arch === 'x64' && glibc !== undefined) return;
  const library = platform === 'linux' && glibc === undefined ? ' without glibc' : '';
  throw new BuildError(
    'missing',
    `this is ${platform}/${arch}${library}; this script builds for linux/x64 with glibc only`,
  );
}

/** Returns the C++ compiler: `CXX`, or the first of the usual names in `PATH`. @throws BuildError if there is none. */
export async function findCompiler({ CXX, PATH = '' }: Readonly<Record<string, string | undefined>>): Promise<string> {
  const names = CXX ? [CXX] : ['g++', 'clang++', 'c++'];
  for (const name of names) {
    const found = await firstExecutable(
      name.includes('/') ? [name] : PATH.split(delimiter).map((folder) => join(folder, name)),
    );
    if (found !== undefined) return found;
  }
  const where = CXX ? `CXX is '${CXX}', which cannot be found` : `no C++ compiler in PATH (${names.join(', ')})`;
  throw new BuildError('missing', `${where}; install one, e.g. apt-get install g++`);
}

async function firstExecutable(files: readonly string[]): Promise<string | undefined> {
  for (const file of files) {
    const isExecutable = await access(file, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (isExecutable) return file;
  }
  return undefined;
}

/**
 * Returns the folder of node_api.h: the one in `--headers`, or where Node's archives, Debian's libnode-dev or the npm
 * package node-api-headers put it.
 *
 * @throws BuildError if it is in none of them.
 */
export function findHeaders(named: string | undefined, node: string, into: string): string {
  const folders = named
    ? [named]
    : [
        join(dirname(dirname(node)), 'include', 'node'),
        '/usr/include/node',
        join(into, 'node_modules', 'node-api-headers', 'include'),
      ];
  const found = folders.find((folder) => existsSync(join(folder, 'node_api.h')));
  if (found !== undefined) return found;
  throw new BuildError(
    'missing',
    `node_api.h is not in ${folders.join(', ')}; install it with: npm install --prefix ${into} node-api-headers`,
  );
}

/** Checks the free disk space of a folder. @throws BuildError if it is less than needed. */
export async function checkSpace(folder: string, neededBytes: number): Promise<void> {
  const { bavail, bsize } = await statfs(folder);
  const free = bavail * bsize;
  if (free >= neededBytes) return;
  throw new BuildError(
    'missing',
    `${folder} needs ${megabytes(neededBytes)} of disk space, ${megabytes(free)} are free`,
  );
}

/** Formats a size in MB. */
export function megabytes(bytes: number): string {
  return `${Math.ceil(bytes / 1e6)} MB`;
}
