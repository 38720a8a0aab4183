import { fromFloat32, openGguf, writeGguf } from '@peftjs/gguf';
import { bytesSource } from '@peftjs/safetensors';
import { expect, it, test } from 'vitest';
import { ropeScalingOf } from './rope.js';

const [THETA, WIDTH] = [500_000, 64];

/** The factors that convert_hf_to_gguf.py writes for Llama 3.2: of each frequency. */
function factors(factor: number, [low, high, length]: readonly [number, number, number] = [1, 4, 8192]): Float32Array {
  return Float32Array.from({ length: WIDTH / 2 }, (_, i) => {
    const wavelength = 2 * Math.PI * THETA ** ((2 * i) / WIDTH);
    const smooth = (length / wavelength - low) / (high - low);
    if (wavelength < length / high) return 1;
    return wavelength > length / low ? factor : 1 / ((1 - smooth) / factor + smooth);
  });
}

function fileWith(values?: Float32Array) {
  const tensors = values ? { 'rope_freqs.weight': fromFloat32('F32', [values.length], values) } : {};
  return openGguf(bytesSource(writeGguf(tensors)));
}

test.each([8, 32])('finds the factor %i of Llama 3', async (factor) => {
  const scaling = await ropeScalingOf(await fileWith(factors(factor)), THETA, 'model.gguf');
  expect(scaling).toEqual({
    rope_type: 'llama3',
    factor,
    low_freq_factor: 1,
    high_freq_factor: 4,
    original_max_position_embeddings: 8192,
  });
});

it('finds none in a file without factors, and refuses other factors', async () => {
  expect(await ropeScalingOf(await fileWith(), THETA, 'model.gguf')).toBeUndefined();
  const others = await fileWith(factors(8, [1, 4, 4096]));
  await expect(ropeScalingOf(others, THETA, 'model.gguf')).rejects.toThrow(/not those of Llama 3/);
});
