import { sizeOf, type HostTensor } from '../tensors.js';

/*
 * The factors of a convolution. Here its kernel is a matrix [height * width * in, out], as TensorFlow.js has the numbers in
 * memory; torch has A as a convolution [r, in, height, width] and B as one of a single place, [out, r, 1, 1].
 */

/** A `[r, height * width * in]` as torch holds it; as it is where the module has no kernel. */
export function convolutionA(loraA: HostTensor, kernel: readonly [number, number] | undefined): HostTensor {
  if (!kernel) return loraA;
  const [r, size] = loraA.shape as [number, number];
  const [height, width] = kernel;
  const channels = size / (height * width);
  return { ...swapped(loraA, [r, height * width, channels]), shape: [r, channels, height, width] };
}

/** B `[out, r]` as torch holds it; as it is where the module has no kernel. */
export function convolutionB(loraB: HostTensor, kernel: readonly [number, number] | undefined): HostTensor {
  return kernel ? { ...loraB, shape: [...loraB.shape, 1, 1] } : loraB;
}

/** A factor of a file: that of a convolution as the matrix it is here, every other tensor as it is. */
export function factorMatrix(factor: HostTensor): HostTensor {
  if (factor.shape.length !== 4) return factor;
  const [rows, channels, height, width] = factor.shape as [number, number, number, number];
  return { ...swapped(factor, [rows, channels, height * width]), shape: [rows, sizeOf([channels, height, width])] };
}

/** The numbers with the last two axes exchanged: [rows, a, b] -> [rows, b, a]. */
function swapped(
  { dtype, data }: HostTensor,
  [rows, a, b]: readonly [number, number, number],
): Omit<HostTensor, 'shape'> {
  const to = new Float32Array(data.length);
  for (let row = 0; row < rows; row++) {
    for (let i = 0; i < a; i++) {
      for (let j = 0; j < b; j++) to[(row * b + j) * a + i] = data[(row * a + i) * b + j] as number;
    }
  }
  return { dtype, data: to };
}
