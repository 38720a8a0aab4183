import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { BuildError } from './build-error.js';
import type { PackageName } from './options.js';

/** The version of both packages, and npm's checksums of their archives. */
const VERSION = '4.22.0';
const INTEGRITY: Readonly<Record<PackageName, string>> = {
  'tfjs-node': 'sha512-uHrXeUlfgkMxTZqHkESSV7zSdKdV0LlsBeblqkuKU9nnfxB1pC6DtoyYVaLxznzZy7WQSegjcohxxCjAf6Dc7w==',
  'tfjs-node-gpu': 'sha512-p//NN6DGiN4hInUmIkRffaFVMcdTREUMjPyjW04J7OXvB2zBlQimj61eFKSgRrH3f5TnOfKzb0n56he/B6a4bw==',
};

/**
 * Installs the package without its install script, unless it exists; npm's own settings decide from where.
 *
 * @returns its folder
 * @throws BuildError if npm is missing or fails, or the installed package is not the known archive.
 */
export async function installPackage(packageName: PackageName, into: string): Promise<string> {
  const name = `@tensorflow/${packageName}`;
  const folder = join(into, 'node_modules', name);
  if (!existsSync(join(folder, 'binding'))) {
    await mkdir(into, { recursive: true });
    const manifest = join(into, 'package.json');
    if (!existsSync(manifest)) await writeFile(manifest, '{ "private": true }\n');
    runNpm(['install', '--prefix', into, '--ignore-scripts', '--no-audit', '--no-fund', `${name}@${VERSION}`], into);
  }
  checkIntegrity(await installedLock(into), packageName);
  return folder;
}

function runNpm(args: readonly string[], folder: string): void {
  const { status, error, stderr } = spawnSync('npm', args, { cwd: folder, encoding: 'utf8' });
  if (error) throw new BuildError('missing', `npm does not start: ${error.message}`, error);
  if (status === 0) return;
  const lines = stderr.split('\n').map((line) => line.replace(/^npm (error|ERR!) ?/, '').trim());
  const isOffline = /E(NOTFOUND|AI_AGAIN|CONNREFUSED|TIMEDOUT)/.test(stderr);
  const said = lines.filter(Boolean).slice(0, 3).join('; ');
  throw new BuildError(isOffline ? 'missing' : 'failed', `npm ${args.join(' ')} failed: ${said}`);
}

/** Reads npm's lockfile of the packages in a folder. */
async function installedLock(into: string): Promise<string> {
  return readFile(join(into, 'node_modules', '.package-lock.json'), 'utf8').catch((cause: unknown) => {
    throw new BuildError(
      'usage',
      `${into} has no lockfile of npm, so its packages cannot be verified; build in another folder`,
      cause,
    );
  });
}

/** Checks the installed version and archive. @throws BuildError if the lockfile names another one. */
export function checkIntegrity(lockfile: string, packageName: PackageName): void {
  const { packages } = JSON.parse(lockfile) as {
    packages: Readonly<Record<string, { readonly version?: string; readonly integrity?: string } | undefined>>;
  };
  const { version, integrity = 'none' } = packages[`node_modules/@tensorflow/${packageName}`] ?? {};
  if (version !== VERSION) {
    throw new BuildError(
      'usage',
      `@tensorflow/${packageName} ${version ?? 'without a version'} is installed; expected ${VERSION}`,
    );
  }
  if (integrity === INTEGRITY[packageName]) return;
  throw new BuildError(
    'failed',
    `@tensorflow/${packageName} has the wrong content: expected ${INTEGRITY[packageName]}, got ${integrity}`,
  );
}
