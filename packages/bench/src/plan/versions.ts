import { findPackage, readManifest } from '../registry/packages.js';

/** Packages whose version changes numbers. */
const NUMERIC_PACKAGES = ['@peftjs/core', '@peftjs/models', '@peftjs/tasks', '@peftjs/engine', '@tensorflow/tfjs', 'onnxruntime-node'];

/** Versions of Node and of what computes the numbers, and of the methods' packages. */
export async function versionsOf(methodPackages: readonly string[]): Promise<Record<string, string>> {
  const versions: Record<string, string> = { node: process.versions.node };
  for (const name of [...NUMERIC_PACKAGES, ...methodPackages]) {
    const folder = findPackage(name);
    const manifest = folder === undefined ? undefined : await readManifest(folder);
    if (manifest) versions[name] = manifest.version;
  }
  return versions;
}
