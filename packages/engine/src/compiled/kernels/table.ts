import { creation } from './creation.js';
import { elementwise, ownSines } from './elementwise.js';
import { fused } from './fused.js';
import type { KernelTable } from './kernel.js';
import { products } from './products.js';
import { quantized } from './quantized.js';
import { reductions } from './reductions.js';
import { shape, splitting, unpacking } from './shape.js';

/** Every TensorFlow.js kernel that can be compiled, family by family. */
export const kernelTable: KernelTable = {
  ...elementwise,
  ...reductions,
  ...shape,
  ...products,
  ...creation,
  ...fused,
  ...quantized,
};

/** Layers that only ONNX Runtime has an operator for. */
const BEYOND_ONNX: ReadonlySet<string> = new Set(['PeftRmsNorm', 'PeftRotary', 'PeftSilu']);

/** The same table without them: they then come as the plain operators that they are composed of, which every runtime knows. */
export const standardTable: KernelTable = Object.fromEntries(
  Object.entries(kernelTable).filter(([name]) => !BEYOND_ONNX.has(name)),
);

/** Buffers that WebGPU promises to a shader: a tensor and its parts. */
const BUFFERS = 8;

/** The table for WebGPU, whose sines are good to 2^-11 only, and where ONNX Runtime's own norm gives a mean for 1 / rms (1.30). */
export const webgpuTable: KernelTable = {
  ...standardTable,
  ...ownSines,
  SplitV: splitting(BUFFERS - 1),
  Unpack: unpacking(BUFFERS - 1),
};
