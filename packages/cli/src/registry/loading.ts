import { statSync } from 'node:fs';
import { onnxFormats } from '@peftjs/onnx/formats';
import { findPackage, packageFolder } from './packages.js';

/** Finds a package. A folder of that name stands for itself: it has no model, and the error says what it lacks. */
function packageOrFolder(name: string): Promise<string> {
  const isFolder = statSync(name, { throwIfNoEntry: false })?.isDirectory() === true;
  return isFolder && findPackage(name) === undefined ? Promise.resolve(name) : packageFolder(name);
}

/** How models are found: folders, installed packages, the hub, GGUF files, and ONNX graphs without other weights. */
export const loading = { resolvePackage: packageOrFolder, formats: onnxFormats() };
