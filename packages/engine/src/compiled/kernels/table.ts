import { attention } from './attention.js';
import { creation } from './creation.js';
import { elementwise, ownSines } from './elementwise.js';
import { fused } from './fused.js';
import type { FusedTable, KernelTable } from './kernel.js';
import { products } from './products.js';
import { quantized } from './quantized.js';
import { reductions } from './reductions.js';
import { shape, splitting, unpacking } from './shape.js';

/** The kernels of all TensorFlow.js ops that can be compiled, by family. */
export const kernelTable: KernelTable = {
  ...elementwise,
  ...reductions,
  ...shape,
  ...products,
  ...creation,
  ...fused,
  ...attention,
  ...quantized,
};

/** Layers that ONNX Runtime has an operator for, but the ONNX standard does not. */
const BEYOND_ONNX: ReadonlySet<string> = new Set<keyof FusedTable>([
  ...(['PeftRmsNorm', 'PeftRotary', 'PeftSilu', 'PeftAttention', 'PeftAttentionGrad'] as const),
]);

/**
 * The table without these: their layers compile to the standard operators that they are composed of, which every
 * runtime knows.
 */
export const standardTable: KernelTable = Object.fromEntries(
  Object.entries(kernelTable).filter(([name]) => !BEYOND_ONNX.has(name)),
);

/** The storage buffers that WebGPU guarantees to a shader: here, for a tensor and its parts. */
const BUFFERS = 8;

/**
 * The table for WebGPU: its sine is only accurate to 2^-11, and ONNX Runtime's own norm (1.30) returns a mean instead
 * of 1 / rms.
 */
export const webgpuTable: KernelTable = {
  ...standardTable,
  ...ownSines,
  SplitV: splitting(BUFFERS - 1),
  Unpack: unpacking(BUFFERS - 1),
};
