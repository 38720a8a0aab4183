// Models in GGUF files, written by tools/golden/gguf_models.py: the outputs are those of transformers.
import { readFileSync } from 'node:fs';
import { memoryStorage } from '@peftjs/core';
import { CheckpointError, floats } from '@peftjs/core/method';
import { isQuantized } from '@peftjs/core/model';
import { relativeDistance } from '@peftjs/conformance';
import { compiled } from '@peftjs/engine';
import { fromFloat32, openGguf, toFloat32, writeGguf, type GgufTensor, type MetadataValue } from '@peftjs/gguf';
import { fromPretrained, type PretrainedModel, type PretrainedOptions } from '@peftjs/models';
import { bytesSource, readSafetensors, toFloat32 as valuesOf } from '@peftjs/safetensors';
import { describe, expect, it, test } from 'vitest';
import { batchOf, golden, load, outputsOf, tiny, tokenRows } from './tiny.js';

const executor = compiled({ threads: 1 });

function fileOf(network: string): Uint8Array {
  return new Uint8Array(readFileSync(new URL(`fixtures/gguf/${network}.gguf`, import.meta.url)));
}

function loaded(bytes: Uint8Array, options: PretrainedOptions = {}): Promise<PretrainedModel> {
  const storage = memoryStorage(new Map([['folder/model.gguf', bytes]]));
  return fromPretrained('folder/model.gguf', { task: 'causal-lm', storage, ...options });
}

interface Content {
  readonly metadata: Map<string, MetadataValue>;
  readonly tensors: Map<string, GgufTensor>;
}

/** Returns a file with changes to its content. */
async function changed(network: string, change: (content: Content) => unknown): Promise<Uint8Array> {
  const file = await openGguf(bytesSource(fileOf(network)));
  const tensors = new Map<string, GgufTensor>();
  for (const name of file.names) tensors.set(name, await file.read(name));
  const metadata = new Map(file.metadata);
  change({ metadata, tensors });
  return writeGguf(tensors, metadata);
}

const families = [
  'llama',
  'qwen2',
  'qwen3',
  'olmo2',
  'granite',
  'gpt2',
  'smollm3',
  'phi3',
  'gemma',
  'gemma2',
  'gemma3',
] as const;

/** The logits with the settings that llama.cpp assumes where a file cannot state those of the folder. */
const assumed = readSafetensors(new Uint8Array(readFileSync(new URL('fixtures/gguf.safetensors', import.meta.url))));

/** The first layers are repeated if llama.cpp assumes a pattern over more of them. */
function inFolder(name: string): string {
  return name.replace(/(?<=layers\.)\d+/, (layer) => String(Number(layer) % 2));
}

describe.each(families)('%s', (network) => {
  const from = tiny(network);

  it('has the weights of the folder that it was made from', async () => {
    const [{ weights }, original] = [await loaded(fileOf(network)), await load(from, 'next')];
    expect(new Set(Object.keys(weights).map(inFolder))).toEqual(new Set(Object.keys(original.weights)));
    for (const [name, weight] of Object.entries(weights)) {
      const expected = original.weights[inFolder(name)] ?? expect.fail(name);
      expect(weight.shape, name).toEqual(expected.shape);
      expect(Buffer.from(floats(weight).buffer).equals(Buffer.from(floats(expected).buffer)), name).toBe(true);
    }
  });

  it('has the logits of transformers', async () => {
    const model = await loaded(fileOf(network));
    const own = assumed.get(network);
    const expected = own ? valuesOf(own) : floats(golden(from, 'next/1/logits') ?? expect.fail('no logits'));
    const batch = batchOf(from, 1);
    const actual = await outputsOf(model, batch, executor);
    expect(relativeDistance(tokenRows(actual, batch), tokenRows(expected, batch))).toBeLessThan(1e-5);
  });
});

it('has the logits of transformers with the positions of YaRN', async () => {
  const number = (type: 'uint32' | 'float32', value: number): MetadataValue => ({ type, value });
  const bytes = await changed('qwen3', ({ metadata }) => {
    metadata.set('qwen3.rope.scaling.type', text('yarn'));
    metadata.set('qwen3.rope.scaling.factor', number('float32', 4));
    metadata.set('qwen3.rope.scaling.original_context_length', number('uint32', 16));
  });
  const batch = batchOf(tiny('qwen3'), 1);
  const actual = await outputsOf(await loaded(bytes), batch, executor);
  const expected = valuesOf(assumed.get('qwen3-yarn') ?? expect.fail('no logits'));
  expect(relativeDistance(tokenRows(actual, batch), tokenRows(expected, batch))).toBeLessThan(1e-5);
});

it('has the tokenizer and the chat template of the file', async () => {
  const { tokenizer, eosTokenIds } = await loaded(fileOf('llama'));
  const ids = { A: 3 + 32, B: 3 + 33, AB: 79 };
  expect(tokenizer.tokenIds('ABA')).toEqual([ids.AB, ids.A]);
  expect(tokenizer.encode('B').ids).toEqual([1, ids.B]); // Llama's texts begin with <s>
  expect((await loaded(fileOf('gemma2'))).tokenizer.encode('B').ids).toEqual([1, ids.B]); // cut as by Tekken
  for (const network of ['qwen2', 'smollm3', 'gemma', 'phi3']) {
    expect((await loaded(fileOf(network))).tokenizer.encode('B').ids).toEqual([ids.B]);
  }
  expect(tokenizer.tokenIds('A</s>')).toEqual([ids.A, 2]);
  expect(tokenizer.decode([ids.AB, ids.A])).toBe('ABA');
  expect(eosTokenIds).toEqual([2]);
  expect(tokenizer.chatTemplate?.render([{ role: 'user', content: 'A' }], { addGenerationPrompt: false })).toBe(
    'A</s>',
  );
});

describe('a tokenizer of SentencePiece', () => {
  const { texts } = JSON.parse(readFileSync(new URL('fixtures/gguf-tokens.json', import.meta.url), 'utf8')) as {
    texts: { text: string; withBlank: number[]; withoutBlank: number[]; decoded: string }[];
  };

  it('has the tokens of transformers, with a blank before texts', async () => {
    const { tokenizer } = await loaded(fileOf('sentencepiece'));
    for (const { text, withBlank, decoded } of texts) {
      expect(tokenizer.encode(text).ids, text).toEqual(withBlank);
      expect(tokenizer.decode(withBlank), text).toBe(decoded);
    }
  });

  it('and without', async () => {
    const bytes = await changed('sentencepiece', ({ metadata }) => {
      metadata.set('tokenizer.ggml.add_space_prefix', { type: 'bool', value: false });
      metadata.set('tokenizer.ggml.add_eos_token', { type: 'bool', value: true });
    });
    const { tokenizer } = await loaded(bytes);
    for (const { text, withoutBlank } of texts) expect(tokenizer.encode(text).ids, text).toEqual([...withoutBlank, 2]);
  });

  test.each<[string, (content: Content) => unknown, RegExp]>([
    ['without scores', ({ metadata }) => metadata.delete('tokenizer.ggml.scores'), /scores' must be a list of 420/],
    ['with a long piece', withPieces(['a'.repeat(257)]), /up to 257 characters.*at most 256/],
    ['with too many pieces', withPieces(Array.from({ length: 2 ** 16 }, () => 'a'.repeat(80))), /5242880 in all/],
  ])('%s is refused', async (_, change, message) => {
    await expect(loaded(await changed('sentencepiece', change))).rejects.toThrow(message);
  });
});

/** Returns a change of the tokenizer to pieces with these texts. */
function withPieces(value: readonly string[]): (content: Content) => void {
  return ({ metadata }) => {
    metadata.set('tokenizer.ggml.tokens', { type: 'array', of: 'string', value });
    metadata.set('tokenizer.ggml.scores', { type: 'array', of: 'float32', value: new Float32Array(value.length) });
    metadata.delete('tokenizer.ggml.token_type');
  };
}

it('quantizes each tensor as it is read', async () => {
  const { weights } = await loaded(fileOf('qwen2'), { dtype: 'q8' });
  const query = weights['model.layers.0.self_attn.q_proj.weight'];
  expect(query && isQuantized(query)).toBe(true);
});

it('decodes blocks: a file in Q8_0 has the weights of its blocks', async () => {
  let expected = new Float32Array();
  const bytes = await changed('llama', ({ tensors }) => {
    const stored = tensors.get('blk.0.ffn_up.weight') ?? expect.fail('no ffn_up');
    const blocks = fromFloat32('Q8_0', stored.shape, toFloat32(stored));
    expected = toFloat32(blocks) as Float32Array<ArrayBuffer>;
    tensors.set('blk.0.ffn_up.weight', blocks);
  });
  const weight = (await loaded(bytes)).weights['model.layers.0.mlp.up_proj.weight'];
  expect([...floats(weight ?? expect.fail('no up_proj'))].sort()).toEqual([...expected].sort());
});

const text = (value: string): MetadataValue => ({ type: 'string', value });

test.each<[string, (content: Content) => unknown, RegExp]>([
  ['an architecture', ({ metadata }) => metadata.set('general.architecture', text('mamba')), /"mamba"; known ones are/],
  [
    'a tokenizer',
    ({ metadata }) => metadata.set('tokenizer.ggml.model', text('bert')),
    /"bert"; known ones are gpt2, llama/,
  ],
  ['a pattern', ({ metadata }) => metadata.set('tokenizer.ggml.pre', text('viking')), /"viking"; known ones are gpt-2/],
  [
    'a setting',
    ({ metadata }) => metadata.set('llama.expert_count', { type: 'uint32', value: 8 }),
    /expert_count' "8"/,
  ],
  ['scaled positions', ({ metadata }) => metadata.set('llama.rope.scaling.type', text('ntk')), /scaling.type' "ntk"/],
  ['other sizes', ({ metadata }) => metadata.set('llama.vocab_size', { type: 'uint32', value: 8 }), /vocab_size' "8"/],
  ['no tokens', ({ metadata }) => metadata.delete('tokenizer.ggml.tokens'), /'tokenizer.ggml.tokens' must be a list/],
  [
    'a tensor',
    ({ tensors }) => tensors.set('rope_freqs.weight', fromFloat32('F32', [1], Float32Array.of(2))),
    /not those of Llama 3/,
  ],
  ['no epsilon', ({ metadata }) => metadata.delete('llama.attention.layer_norm_rms_epsilon'), /epsilon' is missing/],
  ['a missing tensor', ({ tensors }) => tensors.delete('blk.1.attn_q.weight'), /layers.1.self_attn.q_proj.*missing/],
])('%s that is not supported is refused by name', async (_, change, message) => {
  const loading = loaded(await changed('llama', change));
  await expect(loading).rejects.toThrow(CheckpointError);
  await expect(loading).rejects.toThrow(message);
  await expect(loading).rejects.toThrow(/^folder\/model.gguf: /);
});

it('a missing file, a broken one and a subfolder are refused', async () => {
  const storage = memoryStorage(new Map());
  await expect(fromPretrained('none.gguf', { storage })).rejects.toThrow(/no file none.gguf/);
  await expect(loaded(fileOf('llama'), { subfolder: 'more' })).rejects.toThrow(/'subfolder' is not for a .gguf file/);
  await expect(loaded(fileOf('llama').subarray(0, 5000))).rejects.toThrow(/folder\/model.gguf: .*truncated/);
});
