import type { Scalar } from '@tensorflow/tfjs-core';
import type { StepContext } from '../contracts/layer.js';
import { TrainingError } from '../errors.js';
import { tensorAt, type Tensors } from '../tensors.js';
import { dropoutFrom, noiseKey } from './noise.js';

/**
 * Makes the context in which layers run.
 * @param scalars the controller's scalars by name, dropout's integers, and the row masks of a mixed batch by `rowsKey`
 * @param layers number of the adapter's own layers
 * @param training whether dropout is on
 * @param networkDropout the rates of the frozen network's own dropout
 */
export function stepContext(
  scalars: Tensors,
  layers: number,
  training: boolean,
  networkDropout: StepContext['networkDropout'] = {},
): StepContext {
  return {
    training,
    layers,
    networkDropout,
    dropout(name, x, rate) {
      if (!training || rate === 0) return x;
      return dropoutFrom(tensorAt(scalars, noiseKey(name)), x, rate);
    },
    scalar(name) {
      const value = scalars[name];
      if (!value) throw new TrainingError(`a layer needs the scalar '${name}', which no controller provides`, name);
      return value as Scalar;
    },
    rowsOf: (adapter) => tensorAt(scalars, rowsKey(adapter)),
  };
}

/** Returns the name, among a step's scalars, of the mask of an adapter's rows in a mixed batch. */
export function rowsKey(adapter: string): string {
  return `rows.${adapter}`;
}
