import { spawn, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Entry } from 'yauzl';
import { BuildError } from './build-error.js';
import { checkSpace } from './prerequisites.js';
import type { Wheel } from './wheels.js';
import { openArchive } from './zip.js';

const LIBRARIES = ['libtensorflow_cc.so.2', 'libtensorflow_framework.so.2'];
const SOURCES = ['tfjs_backend.cc', 'tfjs_binding.cc'];
const ADDON = 'tfjs_binding.node';

/** The headers of the C interface in any version's layout, and of TensorFlow's strings: 14 headers of thousands. */
const HEADERS = /^(?:(?:tensorflow|tensorflow\/tsl|xla\/tsl)\/c\/.+|.+\/platform\/ctstring(?:_internal)?)\.h$/;

/**
 * Returns the needed entries of a wheel, libraries and C headers, each with its path below the package's folder `deps`.
 */
export function wantedEntries<E extends Pick<Entry, 'fileName'>>(entries: readonly E[]): Map<E, string> {
  const targets = new Map<E, string>();
  for (const entry of entries) {
    const path = entry.fileName.split('/');
    if (path[0] !== 'tensorflow') continue;
    const header = path.slice(2).join('/');
    if (path[1] === 'include' && HEADERS.test(header)) targets.set(entry, `include/${header}`);
    if (path.length === 2 && LIBRARIES.includes(String(path[1]))) targets.set(entry, `lib/${path[1]}`);
  }
  const found = [...targets.values()];
  const lacking = ['include/tensorflow/c/eager/c_api.h', ...LIBRARIES.map((name) => `lib/${name}`)].filter(
    (target) => !found.includes(target),
  );
  if (lacking.length === 0) return targets;
  throw new BuildError('failed', `the wheel has no ${lacking.join(', ')}; try another version of TensorFlow`);
}

/**
 * Returns the arguments of the C++ compiler. `deps` holds lib and include; the addon finds its libraries relative to
 * its final path.
 */
export function compilerArguments(at: { headers: string; binding: string; deps: string }): string[] {
  return [
    ...['-std=c++17', '-O2', '-fPIC', '-shared', '-DNAPI_VERSION=8'],
    ...[`-I${at.headers}`, `-I${join(at.deps, 'include')}`],
    ...SOURCES.map((source) => join(at.binding, source)),
    ...['-o', join(at.deps, ADDON), `-L${join(at.deps, 'lib')}`],
    ...LIBRARIES.map((library) => `-l:${library}`),
    '-Wl,-rpath,$ORIGIN/../../deps/lib',
  ];
}

/** The note stored with a finished addon. */
interface BuildNote {
  readonly tensorflow: string;
  readonly wheel: string;
  readonly sha256: string;
}

/** Whether a package already has the addon of this wheel. */
export async function isBuilt(folder: string, { sha256 }: Wheel): Promise<boolean> {
  if (!existsSync(addonOf(folder))) return false;
  const note = await readFile(noteOf(folder), 'utf8').catch(() => '{}');
  return (JSON.parse(note) as Partial<BuildNote>).sha256 === sha256;
}

/**
 * Unpacks the wheel's libraries and headers into a staging folder in the package.
 * @throws BuildError without enough disk space.
 */
export async function unpackWheel(archive: string, folder: string): Promise<void> {
  const { entries, extract, close } = await openArchive(archive);
  try {
    const targets = wantedEntries(entries);
    const staged = stagedDeps(folder);
    await rm(staged, { recursive: true, force: true });
    await checkSpace(
      folder,
      [...targets.keys()].reduce((sum, { uncompressedSize }) => sum + uncompressedSize, 0),
    );
    for (const [entry, target] of targets) {
      await mkdir(join(staged, dirname(target)), { recursive: true });
      await extract(entry, join(staged, target));
    }
  } finally {
    close();
  }
}

/**
 * Compiles the package's sources against the output of `unpackWheel`.
 * @throws BuildError with the compiler's first error.
 */
export async function compileAddon(compiler: string, headers: string, folder: string): Promise<void> {
  const staged = stagedDeps(folder);
  const args = compilerArguments({ headers, binding: join(folder, 'binding'), deps: staged });
  const run = spawn(compiler, args, { stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  run.stderr.setEncoding('utf8').on('data', (text: string) => (said += text));
  const status = await new Promise((done) => run.on('close', done).on('error', () => done(null)));
  if (status === 0) return;
  const [first = 'no reason given'] = said.split('\n').filter((line) => /error|cannot/i.test(line));
  throw new BuildError('failed', `${compiler} failed: ${first}`);
}

/** Moves everything to its final path, the addon last, so that a package with an addon is complete. */
export async function placeAddon(folder: string, { filename, sha256 }: Wheel, tensorflow: string): Promise<void> {
  const note: BuildNote = { tensorflow, wheel: filename, sha256 };
  const [staged, deps, addon] = [stagedDeps(folder), join(folder, 'deps'), addonOf(folder)];
  await rm(join(staged, 'include'), { recursive: true });
  await rm(addon, { force: true });
  await rm(deps, { recursive: true, force: true });
  await rename(staged, deps);
  await writeFile(noteOf(folder), `${JSON.stringify(note)}\n`);
  await mkdir(dirname(addon), { recursive: true });
  await rename(join(deps, ADDON), addon);
}

/**
 * Loads the package in a separate process and returns its version of TensorFlow.
 * @throws BuildError if it does not work.
 */
export function loadedVersion(folder: string): string {
  const script = `
    const util = require('node:util');
    util.isNullOrUndefined ??= (value) => value == null;
    util.isArray ??= Array.isArray;
    const tf = require(process.argv[1]);
    const [sum] = tf.matMul(tf.ones([1, 3]), tf.ones([3, 1])).dataSync();
    if (sum !== 3 || tf.getBackend() !== 'tensorflow') throw new RangeError('1 + 1 + 1 is ' + sum + ' on ' + tf.getBackend());
    process.stdout.write(tf.backend().binding.TF_Version);`;
  const env = { ...process.env, TF_CPP_MIN_LOG_LEVEL: process.env.TF_CPP_MIN_LOG_LEVEL ?? '2' };
  const { status, stdout, stderr } = spawnSync(process.execPath, ['-e', script, folder], { encoding: 'utf8', env });
  if (status === 0) return stdout;
  const reason = /^\w*Error: .*/m.exec(stderr)?.[0] ?? `exit status ${status}`;
  throw new BuildError('failed', `the addon is built, but does not load: ${reason}`);
}

function stagedDeps(folder: string): string {
  return join(folder, 'deps.partial');
}

/** The path where the package looks for the addon: N-API 8 is the newest that it names. */
function addonOf(folder: string): string {
  return join(folder, 'lib', 'napi-v8', ADDON);
}

function noteOf(folder: string): string {
  return join(folder, 'deps', 'tensorflow.json');
}
