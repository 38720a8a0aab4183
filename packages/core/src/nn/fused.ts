import type { NamedAttrMap, NamedTensorMap, Tensor } from '@tensorflow/tfjs';
import * as tf from '@tensorflow/tfjs';

/**
 * Runs one of peftjs's kernels if the active backend registers it (the compiled engine does), so that a whole layer is
 * one node. Otherwise returns `undefined`, and the layer computes the same numbers from plain ops.
 */
export function runFused(kernel: string, inputs: NamedTensorMap, attributes: NamedAttrMap): Tensor[] | undefined {
  if (!hasKernel(kernel)) return undefined;
  const outputs: Tensor | Tensor[] = tf.engine().runKernel(kernel, inputs, attributes);
  return Array.isArray(outputs) ? outputs : [outputs];
}

/** Returns whether a kernel is registered. The type of `getKernel` claims that it always finds one. */
function hasKernel(kernel: string): boolean {
  return (tf.getKernel(kernel, tf.getBackend()) as tf.KernelConfig | undefined) !== undefined;
}
