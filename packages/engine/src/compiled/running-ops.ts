import * as tf from '@tensorflow/tfjs';
import { EngineError } from '@peftjs/core';

/** The error for a kernel that cannot be compiled. */
export function missingKernel(kernelName: string): EngineError {
  return new EngineError(
    `the TensorFlow.js kernel '${kernelName}'${askedBy()} has no ONNX twin; ` +
      'compose the function from other ops, or run it with the eager executor',
    kernelName,
  );
}

const OP_SUFFIX = '__op';
const RANDOM_OPS: ReadonlySet<string> = new Set([
  'dropout',
  'multinomial',
  'rand',
  'randomGamma',
  'randomNormal',
  'randomStandardNormal',
  'randomUniform',
  'randomUniformInt',
  'truncatedNormal',
]);

/** The public ops that are running, outermost first: TensorFlow.js opens a scope for each. */
function runningOps(): string[] {
  const { scopeStack } = tf.engine().state;
  return scopeStack.flatMap(({ name }) => (name.endsWith(OP_SUFFIX) ? [name.slice(0, -OP_SUFFIX.length)] : []));
}

/** Who asked, for the middle of a sentence; empty where nobody knows. */
export function askedBy(): string {
  const ops = runningOps();
  const isGradient = tf.engine().state.scopeStack.some(({ name }) => name === 'backward');
  if (ops.length === 0) return isGradient ? ' (asked for by a gradient)' : '';
  return ` (asked for by tf.${ops.join(' > tf.')}${isGradient ? ', in a gradient' : ''})`;
}

/** Numbers drawn while the function is traced would be the same in every run. @throws EngineError inside a random op. */
export function refuseRandomness(): void {
  const op = runningOps().find((name) => RANDOM_OPS.has(name));
  if (op === undefined) return;
  throw new EngineError(
    `tf.${op} would draw its numbers once, when the function is compiled, and repeat them in every run; ` +
      'pass random numbers as an input (for dropout see @peftjs/core/nn)',
  );
}
