import { onnxFormats } from '@peftjs/onnx/formats';
import { packageFolder } from './packages.js';

/** How models are found: folders, installed packages, the hub, GGUF files, and ONNX graphs without other weights. */
export const loading = { resolvePackage: packageFolder, formats: onnxFormats() };
