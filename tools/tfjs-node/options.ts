import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { BuildError } from './build-error.js';

/** The options of a build. */
export interface BuildOptions {
  /** The package to build. */
  readonly packageName: PackageName;
  /** Version of TensorFlow, e.g. `2.18.1`. */
  readonly tensorflow: string;
  /** Folder whose node_modules holds the package. */
  readonly into: string;
  /** Folder that keeps downloaded wheels. */
  readonly cache: string;
  /** Folder with node_api.h, if it is not next to Node. */
  readonly headers: string | undefined;
  /** URL of a package index with PyPI's simple API. */
  readonly index: string;
}

/** TensorFlow.js's bindings to TensorFlow, for CPUs or GPUs. */
export type PackageName = 'tfjs-node' | 'tfjs-node-gpu';

/** The usage, printed after a wrong command line. */
export const USAGE = `usage: npx tsx tools/tfjs-node/build.ts --into DIR [--package tfjs-node|tfjs-node-gpu] [--tensorflow 2.18.1]
                                       [--cache DIR] [--headers DIR] [--index URL]`;

/**
 * Lowest and highest minor version of TensorFlow 2 whose wheels have a library to link with; for GPUs, one built with
 * CUDA 12.
 */
const MINORS = { 'tfjs-node': [12, 21], 'tfjs-node-gpu': [15, 21] } as const;

/** Parses a command line. @throws BuildError for an unknown flag or a wrong value. */
export function parseOptions(
  args: readonly string[],
  environment: Readonly<Record<string, string | undefined>>,
): BuildOptions {
  const flags = parseFlags(args);
  const packageName = flags.package;
  if (packageName !== 'tfjs-node' && packageName !== 'tfjs-node-gpu') {
    throw new BuildError('usage', `--package is '${packageName}'; expected tfjs-node or tfjs-node-gpu`);
  }
  if (flags.into === undefined) {
    throw new BuildError('usage', '--into is missing; expected the folder to build in, which is created if needed');
  }
  return {
    packageName,
    tensorflow: checkedVersion(flags.tensorflow, packageName),
    into: resolve(flags.into),
    cache: resolve(flags.cache ?? join(environment.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'peftjs', 'wheels')),
    headers: flags.headers === undefined ? undefined : resolve(flags.headers),
    index: checkedIndex(flags.index ?? environment.PIP_INDEX_URL ?? 'https://pypi.org/simple'),
  };
}

function parseFlags(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      options: {
        package: { type: 'string', default: 'tfjs-node' },
        tensorflow: { type: 'string', default: '2.18.1' },
        into: { type: 'string' },
        cache: { type: 'string' },
        headers: { type: 'string' },
        index: { type: 'string' },
      },
    }).values;
  } catch (cause) {
    const [reason = ''] = (cause as TypeError).message.split('. ');
    throw new BuildError('usage', reason, cause);
  }
}

function checkedVersion(version: string, packageName: PackageName): string {
  const [lowest, highest] = MINORS[packageName];
  const minor = Number(/^2\.(\d+)\.\d+$/.exec(version)?.[1] ?? NaN);
  if (minor >= lowest && minor <= highest) return version;
  throw new BuildError(
    'usage',
    `--tensorflow is '${version}'; ${packageName} supports releases from 2.${lowest}.0 to 2.${highest}.x, e.g. 2.18.1`,
  );
}

function checkedIndex(index: string): string {
  if (/^https?:$/.test(URL.canParse(index) ? new URL(index).protocol : '')) return index;
  throw new BuildError('usage', `the package index is '${index}'; expected a URL such as https://pypi.org/simple`);
}
