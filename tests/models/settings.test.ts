import { predict } from '@peftjs/core';
import { CheckpointError } from '@peftjs/core/method';
import { referenceExecutor } from '@peftjs/conformance';
import { fromPretrained } from '@peftjs/models';
import { describe, expect, it } from 'vitest';
import { batchOf, folder, load, tiny, type Network } from './tiny.js';

const executor = await referenceExecutor();

describe('settings of another network', () => {
  const bert = {
    hidden_act: ['prelu', /'hidden_act' must be one of gelu, .*tanh, got "prelu"/],
    position_embedding_type: ['relative_key', /'position_embedding_type' must be "absolute"/],
    is_decoder: [true, /'is_decoder' must be false/],
    num_attention_heads: [5, /'num_attention_heads' must be an integer from 1 to 16777216 that divides 32, got 5/],
  } as const;
  const llama = {
    hidden_act: ['sine', /'hidden_act' must be one of gelu, /],
    num_key_value_heads: [3, /'num_key_value_heads' must be .* divides 4, got 3/],
    head_dim: [7, /'head_dim' must be even, got 7/],
    rms_norm_eps: [0, /'rms_norm_eps' must be a number above 0, got 0/],
    tie_word_embeddings: ['no', /'tie_word_embeddings' must be true or false, got "no"/],
    rope_interleaved: [true, /'rope_interleaved' must be false/],
    partial_rotary_factor: [0.5, /'partial_rotary_factor' must be 1, got 0\.5/],
    rope_parameters: [
      { rope_type: 'proportional', factor: 4 },
      /'rope_type' must be one of "default", "linear", "dynamic", "llama3", "yarn", "longrope", got "proportional"/,
    ],
    rope_scaling: [{ type: 'linear' }, /'factor' must be a number above 0, got nothing/],
    rope_theta: [-1, /'rope_theta' must be a number above 0, got -1/, { rope_parameters: null }],
  } as const;
  const refused: Partial<Record<Network, Record<string, readonly [unknown, RegExp, object?]>>> = {
    distilbert: {
      activation: ['toString', /'activation' must be one of gelu, /],
      n_heads: [5, /'n_heads' must be an integer from 1 to 16777216 that divides 32, got 5/],
      n_layers: [1e9, /'n_layers' must be an integer from 1 to 1000, got 1000000000/],
    },
    roberta: { ...bert, pad_token_id: [41, /'pad_token_id' must be an integer from 0 to 40, got 41/] },
    electra: { ...bert, embedding_size: [0, /'embedding_size' must be an integer from 1/] },
    'deberta-v3': {
      hidden_act: bert.hidden_act,
      num_attention_heads: bert.num_attention_heads,
      conv_kernel_size: [3, /'conv_kernel_size' must be 0, got 3/],
      relative_attention: [null, /'relative_attention' must be true, got false/],
      pooler_hidden_act: ['xielu', /'pooler_hidden_act' must be one of gelu, /],
      embedding_size: [16, /'embedding_size' must be 32, got 16/],
      attention_head_size: [4, /'attention_head_size' must be 8, got 4/],
      pos_att_type: ['p2p|c2p', /'pos_att_type' must be made of "c2p" and "p2c", got "p2p"/],
      position_buckets: [1, /'position_buckets' must be from 2 to 61 for distances below 32, got 1/],
      max_relative_positions: [4, /'position_buckets' must be from 2 to 5 for distances below 4, got 8/],
      norm_rel_ebd: [7, /'norm_rel_ebd' must be made of words, got 7/],
      share_att_key: ['yes', /'share_att_key' must be true or false/],
      type_vocab_size: [-1, /'type_vocab_size' must be an integer from 0/],
    },
    mpnet: {
      relative_attention_num_buckets: [16, /'relative_attention_num_buckets' must be at least 32, got 16/],
      hidden_act: bert.hidden_act,
    },
    modernbert: {
      num_attention_heads: [32, /'hidden_size' must be even per head, got 32/],
      layer_types: [
        ['full_attention'],
        /'layer_types' must be a list of 2 times "sliding_attention" or "full_attention"/,
      ],
      rope_parameters: [{ full_attention: { rope_type: 'yarn' } }, /'rope_type' must be "default", got "yarn"/],
      rope_scaling: [{ rope_type: 'linear', factor: 2 }, /'rope_scaling' must be nothing/],
      classifier_pooling: ['max', /'classifier_pooling' must be "cls" or "mean", got "max"/],
      hidden_activation: ['geglu', /'hidden_activation' must be one of gelu, /],
    },
    gpt2: {
      activation_function: ['GELU', /'activation_function' must be one of gelu, /],
      scale_attn_by_inverse_layer_idx: [true, /'scale_attn_by_inverse_layer_idx' must be false/],
      scale_attn_weights: [false, /'scale_attn_weights' must be true/],
      add_cross_attention: [true, /'add_cross_attention' must be false/],
      n_head: [5, /'n_head' must be an integer from 1 to 16777216 that divides 32, got 5/],
    },
    llama: {
      ...llama,
      num_attention_heads: [5, /'num_attention_heads' must be .* that divides 32, got 5/, { head_dim: null }],
    },
    qwen2: {
      ...llama,
      layer_types: [
        ['full_attention', 'sliding_attention'],
        /'layer_types' has "sliding_attention", but there is no window/,
      ],
    },
  };
  const table = Object.entries(refused).flatMap(([network, settings]) =>
    Object.entries(settings).map(([name, setting]) => [network as Network, name, setting] as const),
  );

  it.each(table)('%s rejects %s', async (network, name, [value, message, besides = {}]) => {
    const attempt = load(tiny(network), 'classes', {}, { config: { ...besides, [name]: value } });
    const error: unknown = await attempt.then(
      () => expect.fail('it was loaded'),
      (error: unknown) => error,
    );
    expect(error).toBeInstanceOf(CheckpointError);
    expect((error as CheckpointError).message).toMatch(message);
  });

  it.each([
    [
      'ELECTRA',
      'electra',
      { generator_size: '0.25', position_embedding_type: 'absolute', gradient_checkpointing: false },
    ],
    ['DistilBERT', 'distilbert', { tie_weights_: true, output_past: true, _num_labels: 5, is_decoder: false }],
    ['DeBERTa', 'deberta-v3', { legacy: true, conv_act: 'gelu', pooler_dropout: 0, z_steps: null }],
    [
      'GPT-2',
      'gpt2',
      { n_ctx: 1024, task_specific_params: { 'text-generation': { max_length: 50 } }, summary_type: 'mean' },
    ],
    ['SmolLM', 'llama', { is_llama_config: true, rope_interleaved: false, pretraining_tp: 1, torch_dtype: 'bfloat16' }],
    ['Qwen2.5', 'qwen2', { max_window_layers: 28, sliding_window: 131_072, use_mrope: false, rope_theta: 1e6 }],
    ['a cross-encoder', 'roberta', { sbert_ce_default_activation_function: 'torch.nn.modules.linear.Identity' }],
    ['another', 'modernbert', { sentence_transformers: { activation_fn: 'torch.nn.Sigmoid', version: '5.2.0' } }],
    ['Unsloth', 'llama', { model_name: 'unsloth/Llama-3.2-1B', unsloth_version: '2025.3' }],
    ['an early GPT-2', 'gpt2', { n_special: 0, predict_special_tokens: true }],
  ] as const)('take what else the config.json of %s holds', async (_, network, config) => {
    const other = await load(tiny(network), 'classes', {}, { config });
    expect(other.fingerprint).toBe((await load(tiny(network), 'classes')).fingerprint);
  });

  it('reject unknown names, at the top level and nested', async () => {
    const settings = { logit_softcap: 30, rope_parameters: { rope_type: 'default', rope_theta: 10_000, mscale: 2 } };
    const unknown = load(tiny('llama'), 'classes', {}, { config: settings });
    await expect(unknown).rejects.toThrow(CheckpointError);
    await expect(unknown).rejects.toThrow(/llama does not know 'rope_parameters\.mscale', 'logit_softcap', which may/);
    const decoder = load(tiny('distilbert'), 'classes', {}, { config: { add_cross_attention: true } });
    await expect(decoder).rejects.toThrow(/'add_cross_attention' must be false, got true/);
  });

  it('that change the outputs change the fingerprint', async () => {
    const others: readonly (readonly [Network, Record<string, unknown>])[] = [
      ['roberta', { num_attention_heads: 2 }],
      ['distilbert', { activation: 'relu' }],
      ['deberta-v3', { hidden_act: 'gelu_new' }],
      ['deberta-v3', { max_relative_positions: 30 }],
      ['deberta-v2', { layer_norm_eps: 1e-3 }],
      ['mpnet', { layer_norm_eps: 1e-3 }],
      ['modernbert', { layer_types: ['full_attention', 'full_attention'] }],
      ['modernbert', { local_attention: 8 }],
      ['modernbert', { classifier_pooling: 'mean' }],
      ['gpt2', { n_head: 2 }],
      ['gpt2', { activation_function: 'gelu' }],
      ['llama', { rope_parameters: { rope_type: 'linear', factor: 2, rope_theta: 10_000 } }],
      ['llama', { rope_scaling: null, rope_parameters: null, rope_theta: 500_000 }],
      ['qwen2', { rms_norm_eps: 1e-3 }],
    ];
    for (const [network, config] of others) {
      const [own, other] = [await load(tiny(network), 'classes'), await load(tiny(network), 'classes', {}, { config })];
      expect(other.fingerprint, JSON.stringify(config)).not.toBe(own.fingerprint);
    }
  });

  it('of a tokenizer limit the length of its texts, as in transformers', async () => {
    const storage = folder(tiny('roberta'), 'classes');
    await storage.write('tiny/tokenizer_config.json', new TextEncoder().encode('{"model_max_length": 7}'));
    expect((await fromPretrained('tiny', { storage })).maxTokens).toBe(7);
  });

  it('that limit the length truncate longer rows', async () => {
    for (const [network, most] of [
      ['roberta', 40],
      ['deberta-v3', 48],
      ['gpt2', 48],
      ['llama', 48],
    ] as const) {
      const model = await load(tiny(network), 'classes');
      expect(model.maxTokens).toBe(most);
      const long = predict(model, [batchOf(tiny(network), 2, { further: 9 })], { executor });
      await expect(long).rejects.toThrow(`reads at most ${most} tokens, got 49: cut the sequences`);
    }
  });
});

describe('weights that a network does not have', () => {
  it.each([
    ['llama', 'classes', 'model.layers.0.self_attn.q_norm.weight'],
    ['llama', 'classes', 'layers.1.self_attn.q_proj.bias'],
    ['llama', 'classes', 'score.bias'],
    ['qwen2', 'next', 'lm_head.bias'],
    ['distilbert', 'tokens', 'distilbert.adapter.weight'],
  ] as const)('%s with its head for %s refuses %s', async (network, head, unknown) => {
    const isBare = unknown.startsWith('layers');
    const rename = (key: string) => (isBare ? key.replace(/^model\./, '') : key);
    const loading = load(tiny(network), head, {}, { rename, besides: [unknown] });
    await expect(loading).rejects.toThrow(CheckpointError);
    await expect(loading).rejects.toThrow(`'${unknown}' is not a weight of ${network}`);
  });

  it.each([
    ['gpt2', ['transformer.h.0.attn.bias', 'transformer.h.0.attn.masked_bias', 'lm_head.weight']],
    ['llama', ['model.layers.0.self_attn.rotary_emb.inv_freq', 'lm_head.weight']],
    ['roberta', ['roberta.embeddings.position_ids', 'roberta.pooler.dense.weight', 'lm_head.dense.weight']],
    ['deberta-v3', ['deberta.embeddings.position_embeddings.weight', 'mask_predictions.dense.weight']],
  ] as const)('are no buffers and no other heads: %s', async (network, besides) => {
    const model = await load(tiny(network), 'classes', {}, { besides });
    expect(model.fingerprint).toBe((await load(tiny(network), 'classes')).fingerprint);
  });
});
