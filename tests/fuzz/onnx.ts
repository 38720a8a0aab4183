import { memoryStorage, PeftError, predict, type Batch } from '@peftjs/core';
import { hostFilled, hostIntegers, hostZeros } from '@peftjs/core/method';
import { eager } from '@peftjs/engine';
import { fromOnnx } from '@peftjs/onnx';
import { fixture } from '../models/onnx.js';
import { mutated, type Original } from './mutated.js';

/** Bytes that are often mistaken: lengths, field numbers and dimensions. */
const BYTES = [0, 1, 0x7f, 0x80, 0xff];
const original: Original = {
  bytes: fixture('tiny.onnx'),
  faults: 3,
  place: (rng, length) => rng.integer(length),
  spoil: (copy, at, rng) => void copy.fill(BYTES[rng.integer(BYTES.length)] ?? 0, at, at + 1 + rng.integer(9)),
};
const executor = await eager({ backend: 'cpu' });

/** Two rows of three tokens. */
const batch: Batch = {
  inputs: {
    inputIds: hostIntegers(Int32Array.of(1, 2, 3, 4, 5, 6), [2, 3]),
    attentionMask: hostFilled([2, 3], 1),
  },
  labels: hostZeros([2]),
  rowWeights: hostFilled([2], 1),
  rows: [0, 1],
};

/**
 * Loads a mutated graph and computes it: 'read', or 'refused' with an error of the packages. Any other error is thrown.
 */
export async function outcomeOf(seed: number): Promise<'read' | 'refused'> {
  try {
    const storage = memoryStorage(new Map([['graph/model.onnx', mutated(seed, original)]]));
    const model = await fromOnnx('graph/model.onnx', { task: 'feature-extraction', storage });
    await predict(model, [batch], { executor });
    return 'read';
  } catch (error) {
    if (error instanceof PeftError) return 'refused';
    throw error;
  }
}
