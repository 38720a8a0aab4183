import { creation } from './creation.js';
import { elementwise } from './elementwise.js';
import { fused } from './fused.js';
import type { KernelTable } from './kernel.js';
import { products } from './products.js';
import { reductions } from './reductions.js';
import { shape } from './shape.js';

/** Every TensorFlow.js kernel that can be compiled, family by family. */
export const kernelTable: KernelTable = {
  ...elementwise,
  ...reductions,
  ...shape,
  ...products,
  ...creation,
  ...fused,
};
