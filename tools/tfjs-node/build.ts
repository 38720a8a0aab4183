/**
 * Builds the native addon of @tensorflow/tfjs-node 4.22.0 (or tfjs-node-gpu) from the sources in its npm package,
 * against the TensorFlow of a wheel from PyPI. See README.md in this folder.
 *
 *   npx tsx tools/tfjs-node/build.ts --into DIR [--package tfjs-node|tfjs-node-gpu] [--tensorflow 2.18.1]
 *
 * Exits with 0 if the package in DIR works, 1 if the build fails, 2 on bad usage, 3 if this machine lacks something.
 */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { compileAddon, isBuilt, loadedVersion, placeAddon, unpackWheel } from './addon.js';
import { BuildError, EXIT_CODES } from './build-error.js';
import { download, fetchText } from './download.js';
import { installPackage } from './npm-package.js';
import { parseOptions, USAGE, type BuildOptions } from './options.js';
import { checkPlatform, checkSpace, findCompiler, findHeaders, megabytes, thisPlatform } from './prerequisites.js';
import { chooseWheel, offeredWheels, projectOf, type Wheel } from './wheels.js';

try {
  await build(parseOptions(process.argv.slice(2), process.env));
} catch (error) {
  if (!(error instanceof BuildError)) throw error;
  say(`build.ts: ${error.message}`);
  if (error.kind === 'usage') say(USAGE);
  process.exitCode = EXIT_CODES[error.kind];
}

async function build(options: BuildOptions): Promise<void> {
  const { packageName, tensorflow, into, cache } = options;
  checkPlatform(thisPlatform());
  const compiler = await findCompiler(process.env);
  const headers = findHeaders(options.headers, process.execPath, into);
  const wheel = await findWheel(options);
  const folder = await timed(`@tensorflow/${packageName} into ${into}`, () => installPackage(packageName, into));
  if (!(await isBuilt(folder, wheel))) {
    const archive = join(cache, wheel.filename);
    await fetchWheel(wheel, archive);
    await timed('unpack', () => unpackWheel(archive, folder));
    await timed('compile', () => compileAddon(compiler, headers, folder));
    await placeAddon(folder, wheel, tensorflow);
  }
  const version = loadedVersion(folder);
  if (version !== tensorflow) {
    throw new BuildError('failed', `@tensorflow/${packageName} runs on TensorFlow ${version}; expected ${tensorflow}`);
  }
  say(`@tensorflow/${packageName} runs on TensorFlow ${version}. To use it outside of ${into}:`);
  process.stdout.write(`export PEFTJS_TFJS_NODE=${into}\n`);
}

async function findWheel({ packageName, tensorflow, index }: BuildOptions): Promise<Wheel> {
  const project = projectOf(packageName);
  const url = `${index.replace(/\/$/, '')}/${project}/`;
  const { body, contentType } = await fetchText(url, 'application/vnd.pypi.simple.v1+json, text/html;q=0.5');
  return chooseWheel(offeredWheels(body, contentType, url), project, tensorflow);
}

async function fetchWheel(wheel: Wheel, archive: string): Promise<void> {
  const cache = join(archive, '..');
  await mkdir(cache, { recursive: true });
  await checkSpace(cache, wheel.bytes ?? 0);
  let reported = 0;
  await timed(wheel.filename, () =>
    download(wheel, archive, (done, total) => {
      if (done - reported < 50e6) return;
      reported = done;
      say(`  ${megabytes(done)}${total === undefined ? '' : ` of ${megabytes(total)}`}`);
    }),
  );
}

async function timed<T>(what: string, work: () => Promise<T>): Promise<T> {
  const started = performance.now();
  const result = await work();
  say(`${what}: ${((performance.now() - started) / 1000).toFixed(1)} s`);
  return result;
}

function say(line: string): void {
  process.stderr.write(`${line}\n`);
}
