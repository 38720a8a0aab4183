import type { NamedAttrMap, NamedTensorMap, Tensor } from '@tensorflow/tfjs-core';
import * as tf from '@tensorflow/tfjs-core';

/**
 * The kernels of peftjs: layers that a backend may compute as one node. Each reads named tensors, and numbers where it
 * has settings. `T` is the backend's type of a tensor.
 */
export interface FusedKernels<T = Tensor> {
  /** Layer normalisation; also the mean and 1 / standard deviation of each row, `[.., 1]`. */
  PeftLayerNorm(inputs: Record<'x' | 'gain' | 'shift', T>, settings: { epsilon: number }): [y: T, mean: T, invStd: T];
  /** Root-mean-square normalisation; also 1 / root mean square of each row, `[.., 1]`. */
  PeftRmsNorm(inputs: Record<'x' | 'gain', T>, settings: { epsilon: number }): [y: T, invRms: T];
  /** The exact GELU. */
  PeftGelu(inputs: { x: T }): T;
  /** Its gradient, for that of its output. */
  PeftGeluGrad(inputs: Record<'dy' | 'x', T>): T;
  /** The tanh approximation of GELU. */
  PeftGeluTanh(inputs: { x: T }): T;
  /** x sigma(x) */
  PeftSilu(inputs: { x: T }): T;
  /** Rotary embeddings; without `positions`, these are 0, 1, .. */
  PeftRotary(inputs: Record<'x' | 'cos' | 'sin', T> & { positions?: T }): T;
  /**
   * Attention within heads: q, y `[batch, heads, queries, size]`, k, v `[batch, keyHeads, keys, size]`; also the
   * weights `[batch, heads, queries, keys]`, empty where there are more queries than `kept`.
   */
  PeftAttention(inputs: AttentionInputs<T>, settings: AttentionSettings): [y: T, weights: T];
  /** Its gradients with respect to q, k and v. */
  PeftAttentionGrad(inputs: AttentionInputs<T> & Record<'dy' | 'weights', T>, settings: AttentionSettings): [T, T, T];
  /** The product of x with a quantized weight, with integers. */
  PeftInt8MatMul(inputs: { x: T } & QuantizedInputs<T>): T;
  /** Its gradient with respect to x. */
  PeftInt8MatMulGrad(inputs: { dy: T } & QuantizedInputs<T>): T;
  /** A quantized weight as floats. */
  PeftDequantize(inputs: QuantizedInputs<T>): T;
  /** Rows of a table in 8 bits, as floats. */
  PeftDequantizeRows(inputs: Record<'values' | 'scale' | 'ids', T>): T;
}

/** What attention reads; `maskBias` broadcasts to the weights. */
export type AttentionInputs<T> = Record<'q' | 'k' | 'v', T> & { readonly maskBias?: T };

/** The settings of attention. */
export interface AttentionSettings {
  /** The factor of the scores. */
  scale: number;
  /** Whether each query reads only the keys up to its own. */
  causal: boolean;
  /** The most keys that a causal query reads; 0 for all. */
  window: number;
  /** The most queries whose weights are kept for the gradient. */
  kept: number;
}

/** The tensors of a `QuantizedWeight`. */
export type QuantizedInputs<T> = Record<'values' | 'scale', T> & Partial<Record<'zero' | 'step', T>>;

/**
 * Returns a fused kernel if the active backend registers it (the compiled engine does). Otherwise returns `undefined`,
 * and the layer computes the same numbers from plain ops.
 */
export function fusedKernel<K extends keyof FusedKernels>(kernel: K): FusedKernels[K] | undefined {
  // The type of `getKernel` claims that it always finds one.
  const known = tf.getKernel(kernel, tf.getBackend()) as tf.KernelConfig | undefined;
  if (known === undefined) return undefined;
  const run = (inputs: NamedTensorMap, settings?: NamedAttrMap): Tensor | Tensor[] =>
    tf.engine().runKernel(kernel, inputs, settings);
  return run as unknown as FusedKernels[K];
}

/** Runs a fused kernel, or returns `undefined` where {@link fusedKernel} does. */
export function runFused<K extends keyof FusedKernels>(
  kernel: K,
  ...given: Parameters<FusedKernels[K]>
): ReturnType<FusedKernels[K]> | undefined {
  const run = fusedKernel(kernel) as
    | ((...given: Parameters<FusedKernels[K]>) => ReturnType<FusedKernels[K]>)
    | undefined;
  return run?.(...given);
}
