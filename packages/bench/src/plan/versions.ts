import { findPackage, readManifest } from '../registry/packages.js';

/** Packages whose version changes numbers. */
const NUMERIC_PACKAGES = [
  '@peftjs/core',
  '@peftjs/models',
  '@peftjs/tasks',
  '@peftjs/engine',
  '@tensorflow/tfjs',
  'onnxruntime-node',
];

/** Versions of Node and of the packages that compute the numbers, whatever the method. */
export async function numericVersions(): Promise<Record<string, string>> {
  const versions: Record<string, string> = { node: process.versions.node };
  for (const name of NUMERIC_PACKAGES) {
    const folder = findPackage(name);
    const manifest = folder === undefined ? undefined : await readManifest(folder);
    if (manifest) versions[name] = manifest.version;
  }
  return versions;
}
