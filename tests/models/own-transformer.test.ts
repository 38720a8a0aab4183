import { attach, activeAdapter, hostTensor, memoryStorage, predict, type Batch, type Model } from '@peftjs/core';
import { hostIntegers, sizeOf } from '@peftjs/core/method';
import type { Task } from '@peftjs/core/model';
import { referenceExecutor, relativeDistance } from '@peftjs/conformance';
import { lora } from '@peftjs/lora';
import { fromPretrained, generate } from '@peftjs/models';
import {
  activation,
  boolean,
  decoder,
  listOf,
  ownActivation,
  padTokenIdOf,
  positiveInteger,
  positiveNumber,
  type DecoderBlock,
  type ModelType,
} from '@peftjs/models/architectures';
import { writeSafetensors, type StoredTensor } from '@peftjs/safetensors';
import { describe, expect, it } from 'vitest';

// #region network
/** GPT-Neo (Black et al., 2021) as saved by transformers. Layers attend to all earlier tokens or to a window. */
const gptNeoType: ModelType = {
  name: 'gpt_neo',
  savedBy: 'GPTNeoModel or GPTNeoForCausalLM',
  prefix: 'transformer.',
  ignoredSettings: ['attention_types', 'attention_dropout', 'embed_dropout', 'resid_dropout', 'classifier_dropout'],
  unusedWeights: ['attn.attention.bias', 'attn.attention.masked_bias'],
  architecture(config, task) {
    const width = positiveInteger(config, 'hidden_size', 2048);
    const heads = positiveInteger(config, 'num_heads', 16, { divides: width });
    const inner = positiveInteger(config, 'intermediate_size', 4 * width);
    const epsilon = positiveNumber(config, 'layer_norm_epsilon', 1e-5);
    const act = activation(config, 'activation_function', 'gelu_new');
    const window = positiveInteger(config, 'window_size', 256);
    const words = positiveInteger(config, 'vocab_size', 50_257);
    const kinds = listOf(config, 'attention_layers', positiveInteger(config, 'num_layers', 24), {
      isValue: (kind) => kind === 'global' || kind === 'local',
      expected: 'times "global" or "local"',
    });
    const layers = kinds.map((kind, layer): DecoderBlock => ({
      path: `transformer.h.${layer}`,
      layer,
      width,
      norm: { kind: 'layer', epsilon },
      attention: {
        before: 'ln_1',
        qkv: ['attn.attention.q_proj', 'attn.attention.k_proj', 'attn.attention.v_proj'],
        hasBias: false,
        heads,
        scale: 1,
        output: 'attn.attention.out_proj',
      },
      feedForward: { before: 'ln_2', inner: 'mlp.c_fc', width: inner, act, outer: 'mlp.c_proj' },
      ...(kind === 'local' && { window }),
    }));
    const network = {
      name: 'gpt_neo',
      maxTokens: positiveInteger(config, 'max_position_embeddings', 2048),
      settings: { heads, epsilon, [`window of ${kinds.join()}`]: window, ...ownActivation(act, 'gelu_new') },
      table: 'transformer.wte',
      words,
      positions: 'transformer.wpe',
      layers,
      finalNorm: 'transformer.ln_f',
      tied: boolean(config, 'tie_word_embeddings', true),
      ofTokens: 'classifier',
      padTokenId: padTokenIdOf(config, words),
      defaultTargetModules: ['q_proj', 'v_proj'],
    };
    return decoder(network, task);
  },
};
// #endregion network

const [WIDTH, INNER, WORDS, POSITIONS, WINDOW] = [16, 24, 11, 12, 3];
const config = {
  model_type: 'gpt_neo',
  architectures: ['GPTNeoForCausalLM'],
  hidden_size: WIDTH,
  num_heads: 2,
  num_layers: 2,
  intermediate_size: INNER,
  vocab_size: WORDS,
  max_position_embeddings: POSITIONS,
  window_size: WINDOW,
  attention_layers: ['global', 'local'],
  attention_types: [[['global', 'local'], 1]],
};

/** The shapes of a layer's weights as torch stores them, [out, in]. */
const ofLayer = {
  'ln_1.weight': [WIDTH],
  'ln_1.bias': [WIDTH],
  'attn.attention.q_proj.weight': [WIDTH, WIDTH],
  'attn.attention.k_proj.weight': [WIDTH, WIDTH],
  'attn.attention.v_proj.weight': [WIDTH, WIDTH],
  'attn.attention.out_proj.weight': [WIDTH, WIDTH],
  'attn.attention.out_proj.bias': [WIDTH],
  'ln_2.weight': [WIDTH],
  'ln_2.bias': [WIDTH],
  'mlp.c_fc.weight': [INNER, WIDTH],
  'mlp.c_fc.bias': [INNER],
  'mlp.c_proj.weight': [WIDTH, INNER],
  'mlp.c_proj.bias': [WIDTH],
};
const shapes: Readonly<Record<string, readonly number[]>> = {
  'transformer.wte.weight': [WORDS, WIDTH],
  'transformer.wpe.weight': [POSITIONS, WIDTH],
  'transformer.ln_f.weight': [WIDTH],
  'transformer.ln_f.bias': [WIDTH],
  ...Object.fromEntries(
    [0, 1].flatMap((layer) =>
      Object.entries(ofLayer).map(([name, shape]) => [`transformer.h.${layer}.${name}`, shape] as const),
    ),
  ),
};

/** Weights that need no file: the same formula gives them in Python. */
function weightOf(name: string, index: number): StoredTensor {
  const shape = shapes[name] ?? expect.fail(name);
  const value = (_: unknown, i: number): number => ((31 * i * i + 7919 * i + 10_007 * index) % 1009) / 1009 - 0.5;
  const isGain = /ln_\w\.weight$/.test(name);
  const data = Float32Array.from({ length: sizeOf(shape) }, value).map((v) => (isGain ? 1 + v : 2 * v));
  return { dtype: 'F32', shape, data };
}

const weights = new Map(
  Object.keys(shapes)
    .sort()
    .map((name, index) => [name, weightOf(name, index)] as const),
);
const definition = {
  version: '1.0',
  added_tokens: [],
  normalizer: null,
  pre_tokenizer: { type: 'Whitespace' },
  post_processor: null,
  decoder: null,
  model: { type: 'WordPiece', unk_token: 'a', vocab: { a: 0 } },
};
const json = (content: unknown): Uint8Array => new TextEncoder().encode(JSON.stringify(content));
const storage = memoryStorage(
  new Map([
    ['neo/config.json', json(config)],
    ['neo/model.safetensors', writeSafetensors(weights, { format: 'pt' })],
    ['neo/tokenizer.json', json(definition)],
  ]),
);
const load = (task: Task) => fromPretrained('neo', { storage, task, modelTypes: [gptNeoType] });

const executor = await referenceExecutor();

/** The logits of every token of a text, [tokens, words]. */
async function logitsOf(model: Model, ids: readonly number[]): Promise<number[][]> {
  const shape = [1, ids.length];
  const batch: Batch = {
    inputs: {
      inputIds: hostIntegers(Int32Array.from(ids), shape),
      attentionMask: hostTensor(new Float32Array(ids.length).fill(1), shape),
    },
    labels: hostIntegers(Int32Array.from(ids), shape),
    rowWeights: hostTensor(Float32Array.of(1), [1]),
    rows: [0],
  };
  const [row] = await predict(model, [batch], { executor });
  return ids.map((_, token) => [...(row ?? []).slice(token * WORDS, (token + 1) * WORDS)]);
}

describe('a transformer of your own, as a description of its layers', () => {
  it('computes what transformers computes', async () => {
    const logits = await logitsOf(await load('causal-lm'), [1, 5, 3, 9, 2, 7, 7, 4]);
    // The first of GPTNeoForCausalLM of transformers 5.25.0 with these weights, after five tokens and after eight.
    expect(relativeDistance(logits[4]?.slice(0, 4) ?? [], [1.8772, 4.13067, 0.29133, 3.42967])).toBeLessThan(1e-5);
    expect(relativeDistance(logits[7]?.slice(0, 4) ?? [], [1.5106, 1.75553, 3.97756, 2.16542])).toBeLessThan(1e-5);
  });

  it('generates what transformers generates, with cached keys and values', async () => {
    const options = { executor, maxNewTokens: 6, eosTokenId: [] };
    const [text] = await generate(await load('causal-lm'), [[1, 5, 3, 9]], options);
    expect(text?.ids).toEqual([9, 8, 3, 9, 0, 9]);
  });

  it('has the modules of its description, each in its role, which methods adapt', async () => {
    const model = await load('sequence-classification');
    const ofFirst = model.sites.flatMap(({ path, role, layer }) =>
      layer === 0 && role !== 'other' ? [[path, role]] : [],
    );
    expect(ofFirst).toEqual([
      ['transformer.h.0.attn.attention.q_proj', 'attention.query'],
      ['transformer.h.0.attn.attention.k_proj', 'attention.key'],
      ['transformer.h.0.attn.attention.v_proj', 'attention.value'],
      ['transformer.h.0.attn.attention.out_proj', 'attention.output'],
      ['transformer.h.0.mlp.c_fc', 'ffn.in'],
      ['transformer.h.0.mlp.c_proj', 'ffn.out'],
    ]);
    const { layers } = activeAdapter(attach(model, lora({ r: 1, targetModules: 'all-linear' })));
    expect(Object.keys(layers)).toHaveLength(12);
  });
});
