import * as cpu from '@tensorflow/tfjs-backend-cpu';
import * as tf from '@tensorflow/tfjs-core';
import { EngineError } from '@peftjs/core/method';
import { nodeModule } from '@peftjs/core/model';
import { defaultEnvironment, environment } from '../host.js';

/** The packages that bind TensorFlow, in order of preference: the first also finds GPUs. */
const PACKAGES = ['@tensorflow/tfjs-node-gpu', '@tensorflow/tfjs-node'];

/** How to install one: TensorFlow.js's own build of an older TensorFlow, or peftjs's build of a current one. */
export const TENSORFLOW_INSTALL =
  'npm install @tensorflow/tfjs-node, or for a current TensorFlow, from a clone of peftjs: ' +
  'npx tsx tools/tfjs-node/build.ts --into DIR (for a GPU: --package tfjs-node-gpu)';

/**
 * Registers the backend 'tensorflow' with TensorFlow.js, from the folder in PEFTJS_TFJS_NODE, or else from where this
 * package is installed.
 *
 * @throws EngineError when it is not installed, has no native addon, or does not load.
 */
export function loadTensorFlow(): void {
  const { require, name } = findBinding();
  restoreUtilities();
  defaultEnvironment('TF_CPP_MIN_LOG_LEVEL', '2'); // errors only, without TensorFlow's start-up messages
  shareTensorFlowJs(require, name);
  try {
    require(name);
  } catch (cause) {
    const [reason = ''] = (cause as Error).message.split('\n');
    throw new EngineError(
      reason.includes('native addon module') ? `${name} is installed without its native addon` : `${name}: ${reason}`,
      name,
      cause,
    );
  }
}

/** Versions of the package that binds TensorFlow and of the TensorFlow library itself, once the backend has started. */
export function tensorFlowVersions(): Record<string, string> {
  const { require, name } = findBinding();
  const { version } = require(name) as { readonly version: Readonly<Record<'tfjs-node', string>> };
  const { binding } = tf.findBackend('tensorflow') as tf.KernelBackend & Bound;
  return { [name]: version['tfjs-node'], tensorflow: binding.TF_Version };
}

/** Whether TensorFlow has found a GPU to compute on, once the backend is started. */
export function tensorFlowUsesGpu(): boolean {
  return (tf.findBackend('tensorflow') as tf.KernelBackend & Bound).isUsingGpuDevice;
}

/** What the package's backend holds: its native addon, and whether that has found a GPU. */
interface Bound {
  readonly binding: { readonly TF_Version: string };
  readonly isUsingGpuDevice: boolean;
}

/** Finds the package that binds TensorFlow. @throws EngineError when none is installed. */
function findBinding(): { readonly require: NodeJS.Require; readonly name: string } {
  const folder = environment('PEFTJS_TFJS_NODE') ?? '';
  const require = requireFrom(folder);
  const name = PACKAGES.find((candidate) => resolved(require, candidate) !== undefined);
  if (name !== undefined) return { require, name };
  throw new EngineError(`${PACKAGES.join(' and ')} are not installed${folder && ` in ${folder} (PEFTJS_TFJS_NODE)`}`);
}

/** Resolves modules from that folder; '' means from this package. */
function requireFrom(folder: string): NodeJS.Require {
  const modules = nodeModule('node:module') as typeof import('node:module') | undefined;
  const path = nodeModule('node:path') as typeof import('node:path') | undefined;
  if (!modules || !path) throw new EngineError('it runs in Node only');
  return modules.createRequire(folder ? path.resolve(folder, 'package.json') : import.meta.url);
}

function resolved(require: NodeJS.Require, name: string, from?: string): string | undefined {
  try {
    return require.resolve(name, from === undefined ? undefined : { paths: [from] });
  } catch {
    return undefined;
  }
}

/** Restores two functions that tfjs-node 4.22 calls, and that newer versions of Node deprecate or have removed. */
function restoreUtilities(): void {
  const util = (nodeModule('node:util') ?? {}) as Record<string, unknown>;
  util.isNullOrUndefined = (value: unknown) => value == null;
  util.isArray = Array.isArray;
}

/**
 * Makes the package use this process's TensorFlow.js, even from a folder that has another copy: a second copy would
 * replace the kernels of the first, with a warning for each. Layers that the process has loaded are shared too: a
 * second copy would replace their classes, and then `loadLayersModel` would give models of both. Everything else the
 * package needs is its own copy.
 */
function shareTensorFlowJs(require: NodeJS.Require, name: string): void {
  const folder = resolved(require, '@tensorflow/tfjs', resolved(require, name));
  const share = (part: string, exportsOf: (theirs: string) => object | undefined): void => {
    const theirs = resolved(require, part, folder);
    const exports = theirs && exportsOf(theirs);
    if (!theirs || !exports) return;
    require.cache[theirs] ??= { id: theirs, filename: theirs, loaded: true, exports } as NodeJS.Module;
  };
  const entry = (namespace: { readonly default?: object }) => () => namespace.default ?? namespace;
  share('@tensorflow/tfjs-core', entry(tf));
  share('@tensorflow/tfjs-backend-cpu', entry(cpu));
  for (const part of ['@tensorflow/tfjs-layers', '@tensorflow/tfjs']) {
    share(part, (theirs) => {
      const inPackage = theirs.slice(theirs.lastIndexOf('@tensorflow'));
      return Object.entries(require.cache).find(([file]) => file.endsWith(inPackage))?.[1]?.exports as
        | object
        | undefined;
    });
  }
}
