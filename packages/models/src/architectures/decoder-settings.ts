/** The settings of config.json that decoders of Llama's form share. */
import { CheckpointError } from '@peftjs/core/method';
import type { RotaryDecoderConfig, RotaryLayer } from '../rotary-decoder.js';
import { ropeSettings, type RopeConfig } from '../rope.js';
import {
  boolean,
  listOf,
  positiveInteger,
  positiveIntegerOrNull,
  positiveNumber,
  setting,
  wholeNumber,
  type ConfigFile,
} from '../transformers/config.js';

/** What an architecture has where config.json leaves it out, as its class in transformers has it. */
export interface DecoderDefaults {
  readonly vocabSize: number;
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly numHiddenLayers: number;
  readonly numAttentionHeads: number;
  /** Default: as many as heads. */
  readonly numKeyValueHeads?: number;
  /** Default: the hidden size, divided among the heads. */
  readonly headDim?: number;
  readonly maxPositionEmbeddings: number;
  /** Default 1e-6. */
  readonly rmsNormEps?: number;
  /** Default false. */
  readonly tieWordEmbeddings?: boolean;
}

/** What all of them read. */
export type DecoderSettings = Pick<
  RotaryDecoderConfig,
  | 'vocabSize'
  | 'hiddenSize'
  | 'intermediateSize'
  | 'numAttentionHeads'
  | 'numKeyValueHeads'
  | 'headDim'
  | 'maxPositionEmbeddings'
  | 'rmsNormEps'
  | 'tieWordEmbeddings'
> & { readonly numHiddenLayers: number };

/** @throws CheckpointError for a setting that is impossible. */
export function decoderSettings(config: ConfigFile, defaults: DecoderDefaults): DecoderSettings {
  const hiddenSize = positiveInteger(config, 'hidden_size', defaults.hiddenSize);
  const isSized = defaults.headDim !== undefined || (setting(config, 'head_dim') ?? null) !== null;
  const divides = isSized ? {} : { divides: hiddenSize };
  const numAttentionHeads = positiveInteger(config, 'num_attention_heads', defaults.numAttentionHeads, divides);
  const headDim = positiveInteger(config, 'head_dim', defaults.headDim ?? hiddenSize / numAttentionHeads);
  if (headDim % 2 !== 0) {
    throw new CheckpointError(`${config.file}: 'head_dim' must be even, got ${headDim}`, config.file);
  }
  const keyHeads = setting(config, 'num_key_value_heads') === null ? undefined : defaults.numKeyValueHeads;
  return {
    vocabSize: positiveInteger(config, 'vocab_size', defaults.vocabSize),
    hiddenSize,
    intermediateSize: positiveInteger(config, 'intermediate_size', defaults.intermediateSize),
    numHiddenLayers: positiveInteger(config, 'num_hidden_layers', defaults.numHiddenLayers, { most: 1000 }),
    numAttentionHeads,
    numKeyValueHeads: positiveInteger(config, 'num_key_value_heads', keyHeads ?? numAttentionHeads, {
      divides: numAttentionHeads,
    }),
    headDim,
    maxPositionEmbeddings: positiveInteger(config, 'max_position_embeddings', defaults.maxPositionEmbeddings),
    rmsNormEps: positiveNumber(config, 'rms_norm_eps', defaults.rmsNormEps ?? 1e-6),
    tieWordEmbeddings: boolean(config, 'tie_word_embeddings', defaults.tieWordEmbeddings ?? false),
  };
}

/** The norms of Llama: before attention and before the feed-forward module. */
export const PRE_NORMS = { beforeAttention: 'input_layernorm', beforeFeedForward: 'post_attention_layernorm' };

/** The biases of attention that `attention_bias` switches on. */
export function attentionBiases(config: ConfigFile): Pick<RotaryDecoderConfig, 'qkvBias' | 'outputBias'> {
  const attentionBias = boolean(config, 'attention_bias', false);
  return { qkvBias: attentionBias, outputBias: attentionBias };
}

/** Whether a layer attends to a window, or to everything before a token. */
export type LayerType = 'sliding_attention' | 'full_attention';

/**
 * The type of each layer: `layer_types`, or where that is left out what `usual` says of each.
 * @throws CheckpointError for a list of another length, and for types that are not computed here.
 */
export function layerTypes(
  config: ConfigFile,
  { numHiddenLayers }: DecoderSettings,
  usual: (layer: number) => LayerType,
): readonly LayerType[] {
  if ((setting(config, 'layer_types') ?? null) === null) {
    return Array.from({ length: numHiddenLayers }, (_, layer) => usual(layer));
  }
  const isValue = (value: unknown): value is LayerType => value === 'sliding_attention' || value === 'full_attention';
  return listOf(config, 'layer_types', numHiddenLayers, {
    isValue,
    expected: 'times "sliding_attention" or "full_attention"',
  });
}

/** What layers are made of. */
interface LayersOf {
  readonly types: readonly LayerType[];
  /** How many tokens those attend to that slide; null where there is no window. */
  readonly window: number | null;
  readonly rope: (type: LayerType, layer: number) => RopeConfig | undefined;
}

/**
 * Layers of these types; a window as wide as the longest text is none.
 * @throws CheckpointError where a layer slides and there is no window.
 */
export function typedLayers(
  { file }: ConfigFile,
  { maxPositionEmbeddings }: DecoderSettings,
  { types, window, rope }: LayersOf,
): RotaryLayer[] {
  return types.map((type, layer) => {
    const turning = rope(type, layer);
    const own = turning ? { rope: turning } : {};
    if (type === 'full_attention') return own;
    if (window === null) {
      throw new CheckpointError(`${file}: 'layer_types' has "sliding_attention", but there is no window`, file);
    }
    return window < maxPositionEmbeddings ? { ...own, window } : own;
  });
}

/** Layers that are all alike. `window` null: each token attends to all before it. */
export function evenLayers(
  config: ConfigFile,
  settings: DecoderSettings,
  { rope, window = null }: { readonly rope: RopeConfig; readonly window?: number | null },
): RotaryLayer[] {
  const type = window === null ? 'full_attention' : 'sliding_attention';
  const types = Array.from({ length: settings.numHiddenLayers }, (): LayerType => type);
  return typedLayers(config, settings, { types, window, rope: () => rope });
}

/**
 * The layers of Qwen2 and Qwen3: with `use_sliding_window` those from `max_window_layers` on have a window, or those that
 * `layer_types` names.
 */
export function qwenLayers(config: ConfigFile, settings: DecoderSettings): RotaryLayer[] {
  const rope = ropeSettings(config, settings);
  const given = positiveIntegerOrNull(config, 'sliding_window', 4096);
  const window = boolean(config, 'use_sliding_window', false) ? given : null;
  const first = wholeNumber(config, 'max_window_layers', 28);
  const types = layerTypes(config, settings, (layer) =>
    window !== null && layer >= first ? 'sliding_attention' : 'full_attention',
  );
  return typedLayers(config, settings, { types, window, rope: () => rope });
}
