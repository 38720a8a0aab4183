import { activeAdapter, attach, memoryStorage, mergeAndUnload, onWarning, predict, train } from '@peftjs/core';
import { CheckpointError } from '@peftjs/core/method';
import { relativeDistance } from '@peftjs/conformance';
import { compiled } from '@peftjs/engine';
import { lora } from '@peftjs/lora';
import { fromPretrained, saveMerged } from '@peftjs/models';
import { toFloat32 } from '@peftjs/safetensors';
import { describe, expect, it, onTestFinished } from 'vitest';
import { batchOf, decoders, folder, headsOf, heads, load, outputsOf, tiny, type Network, type Tiny } from './tiny.js';

const executor = compiled({ threads: 1 });

describe.each(decoders)('%s', (network) => {
  const from = tiny(network);
  const [base] = headsOf(from);

  it('has exactly the modules of transformers with each of its heads', async () => {
    for (const head of headsOf(from)) {
      const { weights } = await load(from, head);
      const { 'lm_head.weight': ofWords, ...others } = from.keys[head] ?? {};
      const isTied = from.config.tie_word_embeddings === true;
      const expected = { ...others, ...(ofWords && !isTied && { 'lm_head.weight': ofWords }) };
      const size = (shape: readonly number[]): number => shape.reduce((product, length) => product * length, 1);
      const sizes = (shapes: readonly (readonly [string, readonly number[]])[]) =>
        Object.fromEntries(shapes.map(([name, shape]) => [name, size(shape)]));
      const own = Object.entries(weights).map(([name, { shape }]) => [name, shape] as const);
      expect(sizes(own), head).toEqual(sizes(Object.entries(expected)));
    }
  });

  it('adapts the modules of its golden files by default', async () => {
    const { layers } = activeAdapter(attach(await load(from, base), lora({ r: 2 })));
    const keys = [...from.expected.keys()].flatMap((key) => /^lora\/(.*)\.lora_A\.weight$/.exec(key)?.[1] ?? []);
    expect(Object.keys(layers).sort()).toEqual(keys.sort());
  });

  it('gives the same outputs with an adapter as merged and loaded again', async () => {
    const peft = attach(await load(from, base), lora({ r: 2, targetModules: 'all-linear', initLoraWeights: false }), {
      seed: 3,
    });
    const [storage, sourceStorage] = [memoryStorage(new Map()), folder(from, base)];
    await saveMerged(mergeAndUnload(peft), 'merged', { source: 'tiny', storage, sourceStorage });
    const merged = await fromPretrained('merged', { storage, task: heads[base].task });
    const batch = batchOf(from, 1);
    const adapted = (await predict(peft, [batch], { executor })).flatMap((row) => [...row]);
    expect(relativeDistance(await outputsOf(merged, batch, executor), adapted)).toBeLessThan(1e-5);
  });
});

it("granite trains an adapter after a layer's scaling factor, which ONNX Runtime would fuse wrongly", async () => {
  const from = tiny('granite');
  const batch = batchOf(from, 1, { head: 'next' });
  const peft = attach(await load(from, 'next'), lora({ r: 2, targetModules: ['o_proj'] }));
  const losses: number[] = [];
  await train(
    peft,
    { kind: 'causal-lm', batchesPerEpoch: 1, epoch: () => [batch] },
    { executor, epochs: 3, learningRate: 0.1, onStep: ({ loss }) => losses.push(loss) },
  );
  expect(losses[2]).toBeLessThan(losses[0] ?? 0);
});

describe('a head that is tied by its settings', () => {
  const from = tiny('gemma3');
  const table = from.weights.get('model.embed_tokens.weight') ?? expect.fail('no table');
  const withHead = (head: typeof table): Tiny => ({ ...from, heads: new Map([['next/lm_head.weight', head]]) });

  it.each([
    ['instead of the table', from, (key: string) => key.replace('model.embed_tokens', 'lm_head')],
    ['besides an equal table', withHead(table)],
  ])('may be in the file %s', async (_, changed, rename?: (key: string) => string) => {
    const model = await load(changed, 'next', {}, rename && { rename });
    expect(model).toMatchObject({ fingerprint: (await load(from, 'next')).fingerprint, tied: [{}] });
  });

  it('is not tied if it differs from the table', async () => {
    const other = { ...table, dtype: 'F32', data: toFloat32(table).map((value) => 2 * value) } as const;
    const warnings: string[] = [];
    onTestFinished(onWarning((message) => warnings.push(message)));
    const [sourceStorage, storage] = [folder(withHead(other), 'next'), memoryStorage()];
    const model = await fromPretrained('tiny', { task: 'causal-lm', storage: sourceStorage });
    const config = { tie_word_embeddings: false };
    expect(model.fingerprint).toBe((await load(withHead(other), 'next', {}, { config })).fingerprint);
    await saveMerged(model, 'saved', { source: 'tiny', storage, sourceStorage });
    const saved = await fromPretrained('saved', { task: 'causal-lm', storage });
    const batch = batchOf(from, 1, { head: 'next' });
    const [outputs, tied] = await Promise.all(
      [model, await load(from, 'next')].map((each) => outputsOf(each, batch, executor)),
    );
    expect(await outputsOf(saved, batch, executor)).toEqual(outputs);
    expect(outputs).not.toEqual(tied);
    expect(warnings).toEqual([
      expect.stringContaining(
        "'lm_head.weight' differs from 'model.embed_tokens.weight', so the two are not tied, despite 'tie",
      ),
    ]);
  });
});

describe('settings of decoders', () => {
  const fingerprint = async (network: Network, config: Record<string, unknown> = {}): Promise<string> =>
    (await load(tiny(network), 'next', {}, { config })).fingerprint;

  /** Settings as transformers wrote them before version 5, or as in well-known checkpoints. */
  const earlier: readonly (readonly [network: Network, config: Record<string, unknown>])[] = [
    ['qwen3', { layer_types: null, rope_parameters: null, rope_theta: 10_000, rope_scaling: null }],
    ['mistral', { rope_parameters: null, rope_theta: 10_000 }],
    ['smollm3', { layer_types: null, no_rope_layers: null, no_rope_layer_interval: 2, max_window_layers: 28 }],
    ['gemma', { hidden_act: 'gelu', hidden_activation: null }],
    ['gemma2', { layer_types: null, hidden_act: 'gelu_pytorch_tanh', cache_implementation: 'hybrid' }],
    [
      'gemma3',
      {
        layer_types: null,
        sliding_window_pattern: 2,
        rope_parameters: null,
        rope_theta: 1000,
        rope_local_base_freq: 100,
        rope_scaling: { factor: 3, rope_type: 'linear', type: 'linear' },
      },
    ],
    [
      'phi3',
      {
        rope_parameters: null,
        rope_theta: 10_000,
        partial_rotary_factor: 0.625,
        rope_scaling: {
          type: 'su',
          short_factor: [1, 1.1, 1.3, 1.6, 2],
          long_factor: [1, 1.7, 3.1, 4.3, 6],
        },
        attention_bias: false,
      },
    ],
  ];

  it.each(earlier)('of %s are also read in their earlier form', async (network, config) => {
    expect(await fingerprint(network, config)).toBe(await fingerprint(network));
  });

  const others: readonly (readonly [network: Network, config: Record<string, unknown>])[] = [
    ['qwen3', { sliding_window: 7 }],
    ['qwen3', { use_sliding_window: false, layer_types: null }],
    ['qwen2', { use_sliding_window: true, sliding_window: 5, max_window_layers: 0, layer_types: null }],
    ['mistral', { sliding_window: null }],
    ['smollm3', { no_rope_layers: [0, 1] }],
    ['phi3', { original_max_position_embeddings: 17 }],
    ['gemma2', { attn_logit_softcapping: null }],
    ['gemma2', { final_logit_softcapping: 5 }],
    ['gemma3', { query_pre_attn_scalar: 8 }],
    ['granite', { residual_multiplier: 0.5 }],
    ['olmo2', { hidden_act: 'gelu' }],
  ];

  it.each(others)('that change the outputs of %s change its fingerprint: %o', async (network, config) => {
    expect(await fingerprint(network, config)).not.toBe(await fingerprint(network));
  });

  it('ignore a window as wide as the longest text', async () => {
    expect(await fingerprint('mistral', { sliding_window: 48 })).toBe(
      await fingerprint('mistral', { sliding_window: null }),
    );
  });

  const refused: readonly (readonly [network: Network, config: Record<string, unknown>, message: RegExp])[] = [
    ['qwen3', { use_sliding_window: false }, /'layer_types' has "sliding_attention", but there is no window/],
    ['qwen3', { layer_types: ['full_attention'] }, /'layer_types' must be a list of 2 times "sliding_attention" or/],
    ['mistral', { sliding_window: 0 }, /'sliding_window' must be an integer from 1/],
    ['mistral', { layer_types: ['full_attention', 'full_attention'] }, /mistral does not know 'layer_types'/],
    ['smollm3', { no_rope_layers: [1, 2] }, /'no_rope_layers' must be a list of 2 times 0 or 1, got \[1,2\]/],
    [
      'phi3',
      { rope_parameters: { rope_type: 'linear', factor: 2 } },
      /'rope_type' must be one of "default", "longrope"/,
    ],
    ['phi3', { rope_parameters: { partial_rotary_factor: 0.35 } }, /must be at most 1 and give an even number/],
    [
      'phi3',
      { rope_parameters: { rope_type: 'longrope' } },
      /'short_factor' must be a list of 8 numbers above 0, got noth/,
    ],
    ['gemma', { use_bidirectional_attention: true }, /'use_bidirectional_attention' must be false/],
    ['gemma3', { attn_logit_softcapping: 30 }, /'attn_logit_softcapping' must be null/],
    ['granite', { logits_scaling: 0 }, /'logits_scaling' must be a number above 0/],
    [
      'llama',
      { rope_scaling: { rope_type: 'yarn', factor: 2 }, partial_rotary_factor: 0.5 },
      /'partial_rotary_factor' must/,
    ],
  ];

  it.each(refused)('%s rejects %o', async (network, config, message) => {
    const loading = load(tiny(network), 'next', {}, { config });
    await expect(loading).rejects.toThrow(CheckpointError);
    await expect(loading).rejects.toThrow(message);
  });

  it('reject a task for which transformers has no head', async () => {
    const asked = [
      ['gemma3', 'token-classification'],
      ['olmo2', 'token-classification'],
      ['granite', 'sequence-classification'],
    ] as const;
    for (const [network, task] of asked) {
      const loading = load(tiny(network), 'next', { task });
      await expect(loading, network).rejects.toThrow(`has no head for the task '${task}'`);
    }
  });
});
