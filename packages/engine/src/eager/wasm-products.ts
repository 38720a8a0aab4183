import * as tf from '@tensorflow/tfjs-core';
import type { KernelFunc, TensorInfo } from '@tensorflow/tfjs-core';

/** The call signature of the WASM backend's kernels. */
type Kernel<Inputs, Attributes> = (call: {
  readonly inputs: Inputs;
  readonly attrs: Attributes;
  readonly backend: { disposeData(dataId: object): boolean };
}) => TensorInfo;

interface Operands {
  readonly a: TensorInfo;
  readonly b: TensorInfo;
}

type Product = Kernel<Operands, { readonly transposeA: boolean; readonly transposeB: boolean }>;
type Transpose = Kernel<{ readonly x: TensorInfo }, { readonly perm: readonly number[] }>;

const ours = new WeakSet<KernelFunc>();

/**
 * Replaces the WASM backend's matrix product, for the whole process, by one that writes a transposed operand out first.
 * The backend's own product is only fast for untransposed operands; it is ten times slower for transposed ones, which
 * every backward pass has.
 */
export function writeTransposesOut(): void {
  const { kernelFunc, ...config } = tf.getKernel('BatchMatMul', 'wasm');
  if (ours.has(kernelFunc)) return;
  const transpose = tf.getKernel('Transpose', 'wasm').kernelFunc as unknown as Transpose;
  const straightened = ofStraightOperands(kernelFunc as unknown as Product, transpose) as unknown as KernelFunc;
  ours.add(straightened);
  tf.unregisterKernel('BatchMatMul', 'wasm');
  tf.registerKernel({ ...config, kernelFunc: straightened });
}

/**
 * The same product, with transposed operands written out. Batches of matrices are passed on as they are: the backend is
 * equally fast for all of them.
 */
function ofStraightOperands(product: Product, transpose: Transpose): Product {
  return (call) => {
    const { inputs, attrs, backend } = call;
    if (isBatch(inputs.a) || isBatch(inputs.b)) return product(call);
    const straight = (x: TensorInfo, isTransposed: boolean): TensorInfo =>
      isTransposed ? transpose({ inputs: { x }, attrs: { perm: swapped(x.shape.length) }, backend }) : x;
    const [a, b] = [straight(inputs.a, attrs.transposeA), straight(inputs.b, attrs.transposeB)];
    const result = product({ inputs: { a, b }, attrs: { transposeA: false, transposeB: false }, backend });
    if (attrs.transposeA) backend.disposeData(a.dataId);
    if (attrs.transposeB) backend.disposeData(b.dataId);
    return result;
  };
}

function isBatch({ shape }: TensorInfo): boolean {
  return shape.slice(0, -2).some((dim) => dim !== 1);
}

/** The axes with the last two exchanged: rank 3 -> [0, 2, 1]. */
function swapped(rank: number): number[] {
  return [...Array(rank - 2).keys(), rank - 1, rank - 2];
}
