import { memoryStorage, PeftError, predict, type Batch } from '@peftjs/core';
import { createRng, hostFilled, hostIntegers, hostZeros } from '@peftjs/core/method';
import { eager } from '@peftjs/engine';
import { fromOnnx } from '@peftjs/onnx';
import { fixture } from '../models/onnx.js';

const original = fixture('tiny.onnx');
/** Bytes that are often mistaken: lengths, field numbers and dimensions. */
const BYTES = [0, 1, 0x7f, 0x80, 0xff];
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

/** Returns the file with one to three random faults: bits, bytes, lost, repeated and missing ones. */
function mutated(seed: number): Uint8Array {
  const rng = createRng(seed);
  let bytes = original;
  for (let fault = rng.integer(3); fault >= 0; fault--) {
    const at = rng.integer(bytes.length);
    const copy = bytes.slice();
    const kind = rng.integer(5);
    if (kind === 0) copy[at] = (copy[at] ?? 0) ^ (1 << rng.integer(8));
    if (kind === 1) copy.fill(BYTES[rng.integer(BYTES.length)] ?? 0, at, at + 1 + rng.integer(9));
    if (kind === 2) copy.copyWithin(at, at + rng.integer(20));
    if (kind === 3) copy.copyWithin(at + rng.integer(20), at);
    bytes = kind === 4 && rng.uniform() < 0.3 ? copy.subarray(0, at) : copy;
  }
  return bytes;
}

/**
 * Loads a mutated graph and computes it: 'read', or 'refused' with an error of the packages. Any other error is thrown.
 */
export async function outcomeOf(seed: number): Promise<'read' | 'refused'> {
  try {
    const storage = memoryStorage(new Map([['graph/model.onnx', mutated(seed)]]));
    const model = await fromOnnx('graph/model.onnx', { task: 'feature-extraction', storage });
    await predict(model, [batch], { executor });
    return 'read';
  } catch (error) {
    if (error instanceof PeftError) return 'refused';
    throw error;
  }
}
