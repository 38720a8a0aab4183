/**
 * Llama (Touvron et al., 2023) and what shares its form (SmolLM, Qwen2): words, then pre-norm transformer layers with rotary
 * positions of which no token looks ahead, and the heads of transformers. Module paths are those of
 * LlamaForSequenceClassification, LlamaForTokenClassification and LlamaForCausalLM.
 *
 *   x0 = w                                        rows of the table of words
 *   a  = x + Attention(RMS(x)) W_o                softmax(R q (R k)^T / sqrt(size)) v in each head; R turns by the position
 *   x' = a + (silu(m W_g) * m W_u) W_d            m = RMS(a)
 *   h  = RMS(x_L)
 *   of a text       h[last token] W_s
 *   of tokens       h W_c + b_c
 *   the next token  h W_l                         W_l: lm_head, or the transposed table of words
 *   encode          h[last token]
 *
 * Heads of keys and values may be shared by several heads of queries. Which W have a bias is a setting.
 */
import {
  CheckpointError,
  embeddingSite,
  layerNormSite,
  linearSite,
  type Place,
  type Scope,
  type Site,
  type Task,
  type Tensors,
} from '@peftjs/core/method';
import { attention, rotary, silu, type RotaryOptions } from '@peftjs/core/nn';
import * as tf from '@tensorflow/tfjs';
import type { Tensor } from '@tensorflow/tfjs';
import { batchInput, type Architecture, type Network } from '../architecture.js';
import type { Context } from '../context.js';
import { decoder } from '../decoder.js';
import { checkTokens, lastToken, type LastToken } from '../reading.js';
import {
  boolean,
  positiveInteger,
  positiveNumber,
  refuseUnless,
  setting,
  type ConfigFile,
  type ModelType,
} from '../transformers/config.js';
import { ropeAngles, ropeFrequencies, ropeSettings, type RopeConfig } from './rope.js';

/** The settings of config.json that the network depends on, under their names there. */
interface LlamaConfig {
  /** What the network is called. */
  readonly name: string;
  readonly vocabSize: number;
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly numHiddenLayers: number;
  readonly numAttentionHeads: number;
  /** Divides `numAttentionHeads`. */
  readonly numKeyValueHeads: number;
  /** An even number. */
  readonly headDim: number;
  readonly maxPositionEmbeddings: number;
  readonly rmsNormEps: number;
  readonly rope: RopeConfig;
  /** Whether queries, keys and values have a bias. */
  readonly qkvBias: boolean;
  /** Whether the attention's output has one. */
  readonly outputBias: boolean;
  /** Whether the feed-forward modules have one. */
  readonly mlpBias: boolean;
  readonly tieWordEmbeddings: boolean;
}

const WORDS = 'model.embed_tokens';
const FINAL_NORM = 'model.norm';

/** The network of a configuration for a task. */
export function llama(config: LlamaConfig, task: Task): Architecture {
  const { hiddenSize, numHiddenLayers, numKeyValueHeads, headDim, vocabSize, tieWordEmbeddings } = config;
  return decoder(
    network(config),
    {
      width: hiddenSize,
      last: (...pass) => lastTokenHidden(config, ...pass),
      every: (...pass) => everyHidden(config, ...pass),
      layers: numHiddenLayers,
      keyWidth: numKeyValueHeads * headDim,
      ofTokens: 'score',
      table: WORDS,
      words: vocabSize,
      tied: tieWordEmbeddings,
    },
    task,
  );
}

function network(config: LlamaConfig): Omit<Network, 'encode'> {
  const { name, vocabSize, hiddenSize, numHiddenLayers, maxPositionEmbeddings } = config;
  const { numAttentionHeads, headDim, rmsNormEps, rope } = config;
  const { kind: _, ...scaling } = rope.scaling;
  return {
    name,
    maxTokens: maxPositionEmbeddings,
    settings: { numAttentionHeads, headDim, rmsNormEps, ropeTheta: rope.theta, ...scaling },
    sites: [
      embeddingSite(WORDS, vocabSize, hiddenSize),
      ...Array.from({ length: numHiddenLayers }, (_, layer) => layerSites(config, layer)).flat(),
      rmsNormSite(FINAL_NORM, hiddenSize),
    ],
    encodeOnly: [],
    defaultTargetModules: ['q_proj', 'v_proj'],
    lookups: [{ site: WORDS, ids: 'inputIds' }],
  };
}

function layerSites(config: LlamaConfig, layer: number): Site[] {
  const { hiddenSize, intermediateSize, numAttentionHeads, numKeyValueHeads, headDim } = config;
  const path = layerPath(layer);
  const [queries, keys] = [numAttentionHeads * headDim, numKeyValueHeads * headDim];
  const qkv = (name: string, width: number, role: Place['role']): Site => ({
    ...linearSite(`${path}.self_attn.${name}`, hiddenSize, width, { role, layer } as Place),
    hasBias: config.qkvBias,
  });
  const mlp = (name: string, inFeatures: number, outFeatures: number, role: 'ffn.in' | 'ffn.out'): Site => ({
    ...linearSite(`${path}.mlp.${name}`, inFeatures, outFeatures, { role, layer }),
    hasBias: config.mlpBias,
  });
  return [
    rmsNormSite(`${path}.input_layernorm`, hiddenSize, { layer }),
    qkv('q_proj', queries, 'attention.query'),
    qkv('k_proj', keys, 'attention.key'),
    qkv('v_proj', keys, 'attention.value'),
    {
      ...linearSite(`${path}.self_attn.o_proj`, queries, hiddenSize, { role: 'attention.output', layer }),
      hasBias: config.outputBias,
    },
    rmsNormSite(`${path}.post_attention_layernorm`, hiddenSize, { layer }),
    mlp('gate_proj', hiddenSize, intermediateSize, 'ffn.in'),
    mlp('up_proj', hiddenSize, intermediateSize, 'ffn.in'),
    mlp('down_proj', intermediateSize, hiddenSize, 'ffn.out'),
  ];
}

/** A norm that scales and does not shift. */
function rmsNormSite(path: string, width: number, place: Place = {}): Site {
  return { ...layerNormSite(path, width, place), hasBias: false };
}

function layerPath(layer: number): string {
  return `model.layers.${layer}`;
}

/** inputIds [B, S] int32 -> [B, S, H] */
function everyHidden(config: LlamaConfig, scope: Scope, inputs: Tensors, context: Context): Tensor {
  const below = belowLast(config, scope, inputs, context);
  const last = transformerLayer(config, scope, config.numHiddenLayers - 1, below);
  return scope.rmsNorm(FINAL_NORM, last, config.rmsNormEps);
}

/** The last layer but for its keys and values is computed for the last token alone: [B, S] -> [B, 1, H]. */
function lastTokenHidden(config: LlamaConfig, scope: Scope, inputs: Tensors, context: Context): Tensor {
  const below = belowLast(config, scope, inputs, context);
  const only = lastToken(batchInput(inputs, 'attentionMask'));
  const last = transformerLayer(config, scope, config.numHiddenLayers - 1, { ...below, only });
  return scope.rmsNorm(FINAL_NORM, last, config.rmsNormEps);
}

/** What the last layer is given. */
function belowLast(config: LlamaConfig, scope: Scope, inputs: Tensors, context: Context): LayerInputs {
  const ids = batchInput(inputs, 'inputIds');
  checkTokens(config.name, ids, config.maxPositionEmbeddings);
  const angles = anglesOf(config, context.reach);
  let x = scope.embedding(WORDS, ids); // [B, S, H]
  for (let layer = 0; layer < config.numHiddenLayers - 1; layer++) {
    x = transformerLayer(config, scope, layer, { x, context, angles });
  }
  return { x, context, angles };
}

/** [positions, size / 2] */
function anglesOf({ rope, headDim }: LlamaConfig, positions: number): RotaryOptions {
  return ropeAngles(ropeFrequencies(rope, headDim), positions);
}

/** What a layer computes with. */
interface LayerInputs {
  /** All tokens: [B, S, H]. */
  readonly x: Tensor;
  readonly context: Context;
  readonly angles: RotaryOptions;
  /** The token that it is computed for; left out, it is computed for all of them. */
  readonly only?: LastToken;
}

/** x [B, S, H] -> [B, Q, H] */
function transformerLayer(config: LlamaConfig, scope: Scope, layer: number, inputs: LayerInputs): Tensor {
  const { x, only } = inputs;
  const path = layerPath(layer);
  const normed = scope.rmsNorm(`${path}.input_layernorm`, x, config.rmsNormEps); // [B, S, H]
  const context = attended(config, scope, layer, { ...inputs, x: normed }); // [B, Q, heads * size]
  const a = tf.add(only ? only.read(x) : x, scope.linear(`${path}.self_attn.o_proj`, context)); // [B, Q, H]
  const m = scope.rmsNorm(`${path}.post_attention_layernorm`, a, config.rmsNormEps);
  const gate = silu(scope.linear(`${path}.mlp.gate_proj`, m)); // [B, Q, intermediate]
  const inner = tf.mul(gate, scope.linear(`${path}.mlp.up_proj`, m));
  return tf.add(a, scope.linear(`${path}.mlp.down_proj`, inner)); // [B, Q, H]
}

/** Normalised x [B, S, H] -> what its tokens read of those that they attend to, [B, Q, heads * size]. */
function attended(
  { numAttentionHeads, numKeyValueHeads }: LlamaConfig,
  scope: Scope,
  layer: number,
  { x, context, angles, only }: LayerInputs,
): Tensor {
  const path = `${layerPath(layer)}.self_attn`;
  const turned = (states: Tensor, positions = context.positions): Tensor =>
    rotary(states, { ...angles, ...(positions && { positions }) });
  const queries = scope.linear(`${path}.q_proj`, only ? only.read(x) : x); // [B, Q, heads * size]
  const own = {
    keys: turned(scope.linear(`${path}.k_proj`, x)), // [B, S, keyHeads * size]
    values: scope.linear(`${path}.v_proj`, x), // [B, S, keyHeads * size]
  };
  const { keys, values } = context.attended(layer, own); // [B, keys, keyHeads * size]
  return attention(turned(queries, only?.positions), keys, values, {
    heads: numAttentionHeads,
    keyHeads: numKeyValueHeads,
    maskBias: only ? context.lastBias : context.bias,
  });
}

/** Llama as transformers saves it, and SmolLM, which is one: `LlamaModel`, `LlamaForCausalLM` and others. */
export const llamaType: ModelType = {
  name: 'llama',
  savedBy: 'LlamaModel, LlamaForCausalLM or LlamaForSequenceClassification',
  prefix: 'model.',
  inert: ['pretraining_tp', 'is_llama_config', 'max_sequence_length'],
  architecture,
};

/** What a config.json leaves out is as in Llama 2 7B, as transformers has it. */
function architecture(config: ConfigFile, task: Task): Architecture {
  const attentionBias = boolean(config, 'attention_bias', false);
  const sizes = {
    vocabSize: positiveInteger(config, 'vocab_size', 32_000),
    intermediateSize: positiveInteger(config, 'intermediate_size', 11_008),
    maxPositionEmbeddings: positiveInteger(config, 'max_position_embeddings', 2048),
  };
  const biases = { qkvBias: attentionBias, outputBias: attentionBias, mlpBias: boolean(config, 'mlp_bias', false) };
  return llama({ name: 'llama', ...sizes, ...biases, ...llamaSettings(config) }, task);
}

/** What a network of Llama's form brings itself: its name, and what config.json may leave out in its own way. */
type OwnSettings =
  'name' | 'vocabSize' | 'intermediateSize' | 'maxPositionEmbeddings' | 'qkvBias' | 'outputBias' | 'mlpBias';

/**
 * The settings that Llama shares with networks of its form.
 * @throws CheckpointError for a setting that is impossible, or that asks for what is not computed here.
 */
export function llamaSettings(config: ConfigFile): Omit<LlamaConfig, OwnSettings> {
  refuseUnless(config, 'hidden_act', 'silu');
  const hiddenSize = positiveInteger(config, 'hidden_size', 4096);
  const isSized = (setting(config, 'head_dim') ?? null) !== null;
  const divides = isSized ? {} : { divides: hiddenSize };
  const numAttentionHeads = positiveInteger(config, 'num_attention_heads', 32, divides);
  const headDim = positiveInteger(config, 'head_dim', hiddenSize / numAttentionHeads);
  if (headDim % 2 !== 0) {
    throw new CheckpointError(`${config.file}: 'head_dim' must be even, got ${headDim}`, config.file);
  }
  return {
    hiddenSize,
    numHiddenLayers: positiveInteger(config, 'num_hidden_layers', 32, { most: 1000 }),
    numAttentionHeads,
    numKeyValueHeads: positiveInteger(config, 'num_key_value_heads', numAttentionHeads, { divides: numAttentionHeads }),
    headDim,
    rmsNormEps: positiveNumber(config, 'rms_norm_eps', 1e-6),
    rope: ropeSettings(config),
    tieWordEmbeddings: boolean(config, 'tie_word_embeddings', false),
  };
}
