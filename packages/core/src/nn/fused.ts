import type { NamedAttrMap, NamedTensorMap, Tensor } from '@tensorflow/tfjs';
import * as tf from '@tensorflow/tfjs';

/**
 * Runs a kernel of peftjs where the active backend registers it (the compiled engine does), so that a whole layer is one
 * node. Elsewhere `undefined`: the layer then composes the same numbers from plain ops.
 */
export function runFused(kernel: string, inputs: NamedTensorMap, attributes: NamedAttrMap): Tensor[] | undefined {
  if (!hasKernel(kernel)) return undefined;
  const outputs: Tensor | Tensor[] = tf.engine().runKernel(kernel, inputs, attributes);
  return Array.isArray(outputs) ? outputs : [outputs];
}

/** `getKernel` is typed as if it always found one. */
function hasKernel(kernel: string): boolean {
  return (tf.getKernel(kernel, tf.getBackend()) as tf.KernelConfig | undefined) !== undefined;
}
