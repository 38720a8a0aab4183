import { fromFloat32, openGguf, writeGguf, type GgufFile } from '@peftjs/gguf';
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

function fileWith(tensors: Readonly<Record<string, Float32Array>>): Promise<GgufFile> {
  const stored = Object.entries(tensors).map(
    ([name, values]) => [`${name}.weight`, fromFloat32('F32', [values.length], values)] as const,
  );
  return openGguf(bytesSource(writeGguf(new Map(stored))));
}

async function scalingIn(tensors: Readonly<Record<string, Float32Array>>, settings: Record<string, unknown> = {}) {
  const read = (key: string): unknown => settings[key];
  return ropeScalingOf(await fileWith(tensors), { theta: THETA, read, path: 'model.gguf' });
}

test.each([8, 32])('finds the factor %i of Llama 3', async (factor) => {
  expect(await scalingIn({ rope_freqs: factors(factor) })).toEqual({
    rope_type: 'llama3',
    factor,
    low_freq_factor: 1,
    high_freq_factor: 4,
    original_max_position_embeddings: 8192,
  });
});

it('finds the factors of Phi-3 and linear scaling, and none in a file without them', async () => {
  const phi3 = { rope_factors_short: Float32Array.of(1, 1.5), rope_factors_long: Float32Array.of(2, 4) };
  expect(await scalingIn(phi3, { 'rope.scaling.attn_factor': 1.25 })).toEqual({
    rope_type: 'longrope',
    short_factor: [1, 1.5],
    long_factor: [2, 4],
    attention_factor: 1.25,
  });
  const linear = { 'rope.scaling.type': 'linear', 'rope.scaling.factor': 8 };
  expect(await scalingIn({}, linear)).toEqual({ rope_type: 'linear', factor: 8 });
  expect(await scalingIn({}, { 'rope.scaling.type': 'none' })).toBeUndefined();
  expect(await scalingIn({})).toBeUndefined();
});

it.each([
  [{}, undefined],
  [{ 'rope.scaling.attn_factor': 1.5 }, 1.5 * (0.1 * Math.log(4) + 1)],
])('finds the scaling of YaRN, whose attention factor llama.cpp multiplies: %o', async (own, attention) => {
  const yarn = { 'rope.scaling.type': 'yarn', 'rope.scaling.factor': 4, 'rope.scaling.original_context_length': 64 };
  expect(await scalingIn({}, { ...yarn, ...own })).toEqual({
    rope_type: 'yarn',
    factor: 4,
    original_max_position_embeddings: 64,
    attention_factor: attention,
  });
});

it('refuses other factors, too many, and other scalings', async () => {
  await expect(scalingIn({ rope_freqs: factors(8, [1, 4, 4096]) })).rejects.toThrow(/not those of Llama 3/);
  await expect(scalingIn({ rope_freqs: new Float32Array(5000) })).rejects.toThrow(/at most 4096 factors, got \[5000\]/);
  await expect(scalingIn({ rope_factors_long: factors(8) })).rejects.toThrow(/no tensor 'rope_factors_short.weight'/);
  await expect(scalingIn({}, { 'rope.scaling.type': 'ntk' })).rejects.toThrow(/"ntk" is not supported/);
});
