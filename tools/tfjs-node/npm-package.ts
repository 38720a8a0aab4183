import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { BuildError } from './build-error.js';
import type { PackageName } from './options.js';

/** The version of both packages, and the checksums that npm knows their archives by. */
const VERSION = '4.22.0';
const INTEGRITY: Readonly<Record<PackageName, string>> = {
  'tfjs-node': 'sha512-uHrXeUlfgkMxTZqHkESSV7zSdKdV0LlsBeblqkuKU9nnfxB1pC6DtoyYVaLxznzZy7WQSegjcohxxCjAf6Dc7w==',
  'tfjs-node-gpu': 'sha512-p//NN6DGiN4hInUmIkRffaFVMcdTREUMjPyjW04J7OXvB2zBlQimj61eFKSgRrH3f5TnOfKzb0n56he/B6a4bw==',
};

/**
 * Installs the package, without its install script, unless it is there; npm's own settings say from where.
 *
 * @returns its folder
 * @throws BuildError when npm is missing or fails, or what is installed is not the archive that is known.
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
  throw new BuildError(isOffline ? 'missing' : 'failed', `npm ${args.join(' ')} fails: ${said}`);
}

/** What npm noted of the packages that it installed into a folder. */
async function installedLock(into: string): Promise<string> {
  return readFile(join(into, 'node_modules', '.package-lock.json'), 'utf8').catch((cause: unknown) => {
    throw new BuildError(
      'usage',
      `${into} was not filled by npm, so that nobody knows what lies there; build in a folder of its own`,
      cause,
    );
  });
}

/** @throws BuildError when the lockfile says that another archive was installed. */
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
    `@tensorflow/${packageName} is not what it should be: expected ${INTEGRITY[packageName]}, got ${integrity}`,
  );
}
