import { NUMERICS } from '@peftjs/core';
import { findPackage, readManifest } from '../registry/packages.js';

/** What numbers depend on: `NUMERICS` of core, and the versions of Node and of packages by name. */
export interface Versions {
  readonly numerics: number;
  readonly [name: string]: string | number;
}

/** Packages whose version changes numbers. */
const NUMERIC_PACKAGES = ['@peftjs/core', '@peftjs/models', '@peftjs/tasks', '@peftjs/engine', '@tensorflow/tfjs'];
/** The package whose dependency it is: peft-bench may see another copy of it, which computes nothing. */
const ENGINE = '@peftjs/engine';
const RUNTIME = 'onnxruntime-node';

/** Versions of what computes the numbers, whatever the method. */
export async function numericVersions(): Promise<Versions> {
  const versions: Record<string, string> = { node: process.versions.node };
  for (const name of [...NUMERIC_PACKAGES, RUNTIME]) {
    const folder = name === RUNTIME ? findPackage(name, findPackage(ENGINE)) : findPackage(name);
    const manifest = folder === undefined ? undefined : await readManifest(folder);
    if (manifest) versions[name] = manifest.version;
  }
  return { numerics: NUMERICS, ...versions };
}
