import { createRng, hostTensor, normalValues, tensorAt, type AdapterLayer, type HostTensors } from '@peftjs/core';
import { contextOf, initialOf } from '@peftjs/core/testing';
import * as tf from '@tensorflow/tfjs';

/** Values as training might leave them, with these gates. */
export const trainedOf = (layer: AdapterLayer, gates: readonly number[]): HostTensors => {
  const initial = initialOf(layer);
  const loraB = normalValues(createRng(3), tensorAt(initial, 'loraB').shape, 1);
  return { ...initial, loraB, gate: hostTensor(Float32Array.from(gates), [gates.length]) };
};

/** The layer's rule after an optimizer that proposes `gates`. */
export const updatedGates = (
  layer: AdapterLayer,
  gates: readonly number[],
  threshold: number,
  mask: readonly number[] = gates.map(() => 1),
): number[] =>
  tf.tidy(() => {
    const proposed = { gate: tf.tensor1d([...gates]) };
    const previous = { ...proposed, mask: tf.tensor1d([...mask]) };
    const changed = layer.update?.(proposed, { previous, gradient: {}, ctx: contextOf({ threshold }) }) ?? {};
    return [...tensorAt(changed, 'gate').dataSync()];
  });
