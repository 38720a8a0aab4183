import { hostZeros, patternValue, type HostTensor, type HostTensors, type Rng, type Site } from '@peftjs/core/method';
import { kaimingUniform, matrixProduct, symmetricInverse, transposed } from '@peftjs/core/linalg';
import type { GoraConfig } from './config.js';

/** Added to the diagonal of A^T A, as in the released code. */
const RIDGE = 1e-8;

/** Returns a random A, and B against the gradient G [in, out], or a zero B without a gradient. */
export function initialTensors(
  { path, inFeatures, outFeatures }: Site,
  r: number,
  { gamma, loraAlpha, alphaPattern }: GoraConfig,
  rng: Rng,
  gradient?: HostTensor,
): HostTensors {
  const loraA = kaimingUniform(rng, inFeatures, r); // [in, r]
  if (!gradient) return { loraA, loraB: hostZeros([r, outFeatures]) };
  const xi = (gamma * Math.sqrt(inFeatures)) / (patternValue(alphaPattern, path) ?? loraAlpha);
  return { loraA, loraB: alongGradient(loraA, gradient, -xi) };
}

/** Returns factor (A^T A)^-1 A^T G, [r, out]: the least-squares coordinates of G in the columns of A. */
export function alongGradient(loraA: HostTensor, gradient: HostTensor, factor: number): HostTensor {
  const turned = transposed(loraA); // [r, in]
  const inverse = symmetricInverse(matrixProduct(turned, loraA), RIDGE); // [r, r]
  return matrixProduct(inverse, matrixProduct(turned, gradient), factor); // [r, out]
}
