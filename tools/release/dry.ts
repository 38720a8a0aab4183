/**
 * Every step of a release but the upload, on a copy of the last commit:
 *
 *   npm run release:dry -- [--package @peftjs/sora ..] [--out DIR]
 *
 * The workflow `release` runs the same npm scripts. `--package` builds, checks and packs only the packages that it
 * names; `--out` keeps the tarballs. The copy uses what is installed here, so the network is needed only where a
 * release changes a dependency. Exits with 1 at the first step that fails; nothing else is left behind either way.
 */
import { spawn } from 'node:child_process';
import { cp, mkdir, mkdtemp, readFile, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { ConfigError } from '@peftjs/core/method';
import { formatBytes, textTable } from '../../packages/cli/src/format.js';
import { linkInstalled } from './linked.js';
import { packPackages, publishedManifests, type PackedPackage } from './packed.js';

interface Options {
  /** The packages to build, check and pack. */
  readonly only: readonly string[];
  /** The folder for the tarballs. */
  readonly out: string | undefined;
}

/** Why there is no release: a line for the terminal. */
class Stopped extends Error {}

/** What npm says where its registry does not answer. */
const UNREACHABLE = /\b(?:ECONNREFUSED|ECONNRESET|ENOTFOUND|EAI_AGAIN|ETIMEDOUT|ENETUNREACH|ENOTCACHED)\b/;
const CONNECT = "npm's registry is out of reach; connect, or set another with npm config set registry";

const repository = process.cwd();
const interrupted = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => interrupted.abort());

try {
  await tryRelease(parsed(process.argv.slice(2)));
} catch (error) {
  if (!(error instanceof Stopped)) throw error;
  process.exitCode = 1;
  console.error(`release:dry: ${error.message}`);
}

function parsed(args: readonly string[]): Options {
  const options = { package: { type: 'string', multiple: true }, out: { type: 'string' } } as const;
  try {
    const { values } = parseArgs({ args: [...args], options });
    return { only: values.package ?? [], out: values.out };
  } catch (error) {
    throw new Stopped((error as Error).message);
  }
}

async function tryRelease({ only, out }: Options): Promise<void> {
  const folder = await realpath(await mkdtemp(join(tmpdir(), 'peftjs-release-')));
  try {
    const copy = join(folder, 'copy');
    await step('copy of the last commit', () => copyTo(copy), 'run it in the root of the repository, after npm ci');
    const before = new Map(publishedManifests(copy).map(({ name, version }) => [name, version]));
    const unknown = only.find((name) => !before.has(name));
    if (unknown !== undefined) throw new Stopped(`--package is '${unknown}'; expected a name such as @peftjs/sora`);
    await runScripts(copy, only);
    const packed = await packInto(join(folder, 'tarballs'), copy, only.length > 0 ? only : [...before.keys()]);
    if (out !== undefined) {
      const keep = () => cp(join(folder, 'tarballs'), out, { recursive: true });
      await step(`copy of the tarballs in ${out}`, keep, 'name a folder that can be written as --out');
    }
    console.log(`\n${reportOf(packed, before)}`);
  } finally {
    await rm(folder, { recursive: true, force: true, maxRetries: 5 });
  }
}

/** Clones the last commit, with its history, which changelogs refer to. */
async function copyTo(copy: string): Promise<void> {
  const changes = await run(['git', 'status', '--porcelain'], repository);
  if (changes !== '') console.log(`not part of it, because it is not committed:\n${changes.trimEnd()}\n`);
  await run(['git', 'clone', '--quiet', '--shared', repository, copy], repository);
  await linkInstalled(repository, copy);
}

/** Runs the npm scripts that the workflow runs before it uploads. */
async function runScripts(copy: string, only: readonly string[]): Promise<void> {
  const projects = only.length > 0 ? ['--', `--projects=${only.join(',')}`] : [];
  await step(
    'versions, changelogs, lock file',
    () => raiseVersions(copy),
    'correct the changeset or package.json that is named above, and commit it',
  );
  await step(
    'build',
    () => run(['npm', 'run', 'build', ...projects], copy),
    'repeat it with npm run build, correct what is named above, and commit it',
  );
  await step(
    'publint, attw, size-limit',
    () => run(['npm', 'run', 'check:packages', ...projects], copy),
    'repeat it with npm run check:packages, correct what is named above, and commit it',
  );
}

async function raiseVersions(copy: string): Promise<void> {
  await run(['npm', 'run', 'version-packages', '--prefer-offline'], copy);
  const { packages } = JSON.parse(await readFile(join(copy, 'package-lock.json'), 'utf8')) as LockFile;
  for (const { name, version } of publishedManifests(copy)) {
    const locked = packages[packages[`node_modules/${name}`]?.resolved ?? '']?.version;
    if (locked !== version) {
      throw new ConfigError(
        `package-lock.json has ${name} ${locked}, not ${version}: see version-packages in package.json`,
        name,
      );
    }
  }
}

/** The parts of package-lock.json that tell the version of a package of the repository. */
interface LockFile {
  readonly packages: Readonly<Record<string, { readonly resolved?: string; readonly version?: string }>>;
}

async function packInto(folder: string, copy: string, only: readonly string[]): Promise<PackedPackage[]> {
  await mkdir(folder);
  return step(
    'tarballs',
    () => packPackages(folder, { from: copy, only }),
    'correct the package.json that is named above, and commit it',
  );
}

/** Runs a step and says how long it took. @throws Stopped, after the step's output, with what to do. */
async function step<T>(name: string, work: () => Promise<T>, whatToDo: string): Promise<T> {
  const from = performance.now();
  try {
    interrupted.signal.throwIfAborted();
    const result = await work();
    console.log(`${name}: ${((performance.now() - from) / 1000).toFixed(0)} s`);
    return result;
  } catch (error) {
    if (interrupted.signal.aborted) throw new Stopped('interrupted; nothing is left behind');
    const { message } = error as Error;
    console.error(message.trimEnd());
    throw new Stopped(`'${name}' failed: ${UNREACHABLE.test(message) ? CONNECT : whatToDo}`);
  }
}

/** Runs a command and returns its output; where the command fails, the output is the error's message. */
function run([command = '', ...args]: readonly string[], cwd: string): Promise<string> {
  return new Promise((resolve, reject) => {
    // Starts a new process group: an interrupt ends all of its processes before the copy is removed.
    const child = spawn(command, args, { cwd, detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
    const end = (): void => {
      if (child.pid !== undefined && child.exitCode === null) process.kill(-child.pid);
    };
    interrupted.signal.addEventListener('abort', end);
    let output = '';
    const add = (chunk: Buffer): void => void (output += chunk.toString());
    for (const stream of [child.stdout, child.stderr]) stream.on('data', add);
    child.on('error', reject);
    child.on('close', (code) => {
      interrupted.signal.removeEventListener('abort', end);
      if (code === 0 && !interrupted.signal.aborted) resolve(output);
      else reject(new Error(output));
    });
  });
}

function reportOf(packed: readonly PackedPackage[], before: ReadonlyMap<string, string>): string {
  const rows = packed.map(({ name, version, size, files }) => {
    return [name, `${before.get(name)} -> ${version}`, formatBytes(size), `${files.length}`];
  });
  const isNew = packed.some(({ name, version }) => before.get(name) !== version);
  const next = isNew
    ? `the workflow 'release' proposes these versions in the pull request "Version packages"; merging it uploads them`
    : `no changeset raises a version; the workflow 'release' uploads the versions that npm does not have`;
  return `${textTable(['package', 'version', 'tarball', 'files'], rows, [2, 3])}
Nothing was uploaded. Next: ${next}, with provenance.`;
}
