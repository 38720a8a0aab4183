import { openGguf, writeGguf, type MetadataValue } from '@peftjs/gguf';
import { bytesSource } from '@peftjs/safetensors';
import { expect, it, test } from 'vitest';
import { configOf } from './config.js';

/** The settings that every rotary decoder has. */
const SHARED = {
  block_count: 2,
  context_length: 64,
  embedding_length: 24,
  feed_forward_length: 40,
  'attention.head_count': 4,
  'attention.layer_norm_rms_epsilon': Math.fround(1e-6),
};

async function configWith(architecture: string, settings: Readonly<Record<string, number | string>>) {
  const metadata = new Map<string, MetadataValue>([['general.architecture', { type: 'string', value: architecture }]]);
  for (const [key, value] of Object.entries({ ...SHARED, ...settings })) {
    const type = Number.isInteger(value) ? 'uint32' : 'float32';
    const name = key.startsWith('tokenizer.') ? key : `${architecture}.${key}`;
    metadata.set(name, typeof value === 'string' ? { type: 'string', value } : { type, value });
  }
  return configOf(await openGguf(bytesSource(writeGguf({}, metadata))), 'model.gguf');
}

it('has the numbers of config.json: floats without the digits that float32 adds, and as many keys as queries', async () => {
  const config = await configWith('llama', { 'rope.freq_base': Math.fround(1e6 / 3) });
  expect(config).toMatchObject({ rms_norm_eps: 1e-6, head_dim: 6, num_key_value_heads: 4, tie_word_embeddings: true });
  expect(Math.fround(config['rope_theta'] as number)).toBe(Math.fround(1e6 / 3));
});

test.each([
  [
    { 'rope.dimension_count': 4, 'attention.sliding_window': 0 },
    { partial_rotary_factor: 4 / 6, sliding_window: null },
  ],
  [{ 'attention.sliding_window': 16 }, { partial_rotary_factor: 1, sliding_window: 16 }],
])('reads %o of Phi-3', async (settings, expected) => {
  expect(await configWith('phi3', settings)).toMatchObject({ model_type: 'phi3', ...expected });
});

const window = { 'attention.sliding_window': 16 };

test.each([
  ['gemma2', { 'attention.key_length': 10, attn_logit_softcapping: 50 }, { query_pre_attn_scalar: 10 }],
  ['gemma2', { block_count: 46, ...window }, { query_pre_attn_scalar: 6, sliding_window: 16 }],
  ['gemma3', { block_count: 62, 'attention.key_length': 10, ...window }, { query_pre_attn_scalar: 6 }],
  ['gemma3', {}, { model_type: 'gemma3_text', query_pre_attn_scalar: 6, sliding_window_pattern: 1 }],
  ['gemma3', window, { sliding_window: 16, sliding_window_pattern: undefined }],
  ['gemma3', { ...window, 'attention.sliding_window_pattern': 2 }, { sliding_window_pattern: 2 }],
])('reads what %s leaves to llama.cpp, with %o', async (architecture, settings, expected) => {
  expect(await configWith(architecture, settings)).toMatchObject(expected);
});

const YARN = { 'rope.scaling.type': 'yarn', 'rope.scaling.factor': 4 };

test.each([
  [6, [2, 5, 6]],
  [5, [2, 5]],
])('ends texts at each of the tokens that llama.cpp does, with eom %d', async (eom, expected) => {
  const settings = {
    'tokenizer.ggml.eos_token_id': 2,
    'tokenizer.ggml.eot_token_id': 5,
    'tokenizer.ggml.eom_token_id': eom,
  };
  expect(await configWith('llama', settings)).toMatchObject({ eos_token_id: expected });
});

it('reads the settings of YaRN that llama.cpp assumes', async () => {
  const assumed = { 'rope.scaling.yarn_beta_fast': 32, 'rope.scaling.yarn_beta_slow': 1 };
  const config = await configWith('qwen3', { ...YARN, ...assumed });
  expect(config['rope_scaling']).toMatchObject({ rope_type: 'yarn', factor: 4 });
});

it('refuses a part of a model', async () => {
  const parts = { 'split.no': 1, 'split.count': 2 };
  const metadata = Object.entries(parts).map(([key, value]) => [key, { type: 'uint16', value }] as const);
  const file = await openGguf(bytesSource(writeGguf({}, new Map<string, MetadataValue>(metadata))));
  await expect(configOf(file, 'model.gguf')).rejects.toThrow(
    'model.gguf: it is part 2 of 2; merge them first, with llama-gguf-split --merge',
  );
});

test.each([
  [
    'gemma2',
    { 'attention.sliding_window_pattern': 3 },
    /'gemma2.attention.sliding_window_pattern' "3" is not supported/,
  ],
  ['phi3', { 'rope.scaling.factor': 4 }, /'phi3.rope.scaling.factor' "4" is not supported/],
  ['smollm3', { 'rope.scaling.type': 'ntk' }, /"ntk" is not supported/],
  ['qwen3', { ...YARN, 'rope.scaling.yarn_beta_fast': 16 }, /yarn_beta_fast' "16" is not supported/],
  ['llama', { 'attention.value_length': 8 }, /value_length' "8" is not supported/],
])('refuses what %s does not read: %o', async (architecture, settings, message) => {
  await expect(configWith(architecture, settings)).rejects.toThrow(message);
});
