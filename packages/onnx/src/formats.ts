import type { CheckpointFormat, FileFormat } from '@peftjs/models/architectures';
import { DEFAULTS, graphFormats } from './graph-formats.js';

/**
 * Returns the formats of ONNX models, for the option `formats` of `fromPretrained`: folders as transformers.js lays them
 * out that have no safetensors, and `.onnx` files. `fromOnnx` has more options.
 * @example
 * const model = await fromPretrained('Xenova/all-MiniLM-L6-v2', { formats: onnxFormats() });
 */
export function onnxFormats(): (CheckpointFormat | FileFormat)[] {
  return graphFormats({ options: DEFAULTS, unless: SAFETENSORS });
}

const SAFETENSORS = ['model.safetensors', 'model.safetensors.index.json'];
