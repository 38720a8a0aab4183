import * as tf from '@tensorflow/tfjs';

/**
 * Runs `body` on a TensorFlow.js backend that has been started, then gives the process its own backend back, also after a
 * throw. `body` is synchronous: nothing else sees the switch.
 */
export function withBackend<T>(name: string, body: () => T): T {
  const previous = tf.getBackend();
  if (previous === name) return body();
  switchTo(name);
  try {
    return body();
  } finally {
    if (previous) switchTo(previous);
  }
}

/** For a started backend the switch is done when the call returns; the promise is only for others. */
function switchTo(name: string): void {
  void tf.setBackend(name);
}
