import * as tf from '@tensorflow/tfjs-core';

/**
 * Runs `body` on a TensorFlow.js backend that has been started, then restores the process's current backend, also after
 * a throw. `body` is synchronous, so no other code sees the switch.
 */
export function withBackend<T>(name: string, body: () => T): T {
  const previous = tf.getBackend();
  if (previous === name) return body();
  void tf.setBackend(name); // for a started backend, it switches before it returns
  try {
    return body();
  } finally {
    if (previous) void tf.setBackend(previous);
  }
}
