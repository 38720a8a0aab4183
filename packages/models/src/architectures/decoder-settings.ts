/** Llama-style decoders: the settings of config.json that all share, and those with other values in a family. */
import { fileError } from '../json.js';
import type { RotaryDecoderConfig, RotaryLayer } from '../rotary-config.js';
import { rotaryDecoder } from '../rotary-decoder.js';
import { ropeSettings, type RopeConfig } from '../rope.js';
import {
  activation,
  boolean,
  dropoutRate,
  listOf,
  positiveInteger,
  positiveNumber,
  setting,
  padTokenIdOf,
  type ConfigFile,
  type ModelType,
} from '../transformers/config.js';

/** A family of decoders: what differs from Llama. */
interface DecoderFamily extends Omit<ModelType, 'prefix' | 'architecture'>, Pick<RotaryDecoderConfig, 'classifies'> {
  /** The values of missing settings. */
  readonly defaults: DecoderDefaults;
  /** Returns what the network has besides the shared settings. It overrides Llama's norms, activation and layers. */
  readonly own: (config: ConfigFile, settings: DecoderSettings) => Partial<RotaryDecoderConfig>;
}

/** Returns the model type of a family. */
export function decoderType({ defaults, own, classifies, ...type }: DecoderFamily): ModelType {
  return {
    ...type,
    prefix: 'model.',
    architecture(config, task) {
      const settings = decoderSettings(config, defaults);
      const differing = own(config, settings);
      const common = {
        name: type.name,
        norms: PRE_NORMS,
        hiddenAct: differing.hiddenAct ?? activation(config, 'hidden_act', 'silu'),
        layers: differing.layers ?? evenLayers(config, settings, { rope: ropeSettings(config, settings) }),
        ...(classifies && { classifies }),
      };
      return rotaryDecoder({ ...settings, ...common, ...differing }, task);
    },
  };
}

/** The values of settings that config.json leaves out, as in the architecture's class in transformers. */
interface DecoderDefaults {
  /** The number of tokens in the vocabulary. */
  readonly vocabSize: number;
  /** The width of the hidden states, H. */
  readonly hiddenSize: number;
  /** The width inside the feed-forward module. */
  readonly intermediateSize: number;
  /** The number of transformer layers. */
  readonly numHiddenLayers: number;
  /** The number of query heads. */
  readonly numAttentionHeads: number;
  /** The number of key and value heads. Default: `numAttentionHeads`. */
  readonly numKeyValueHeads?: number;
  /** The width of a head. Default: `hiddenSize / numAttentionHeads`. */
  readonly headDim?: number;
  /** The longest sequence, in tokens. */
  readonly maxPositionEmbeddings: number;
  /** Epsilon of the RMS norms. Default 1e-6. */
  readonly rmsNormEps?: number;
  /** Whether the output layer uses the word embedding table. Default false. */
  readonly tieWordEmbeddings?: boolean;
  /** The ID of the padding token. Default: none. */
  readonly padTokenId?: number;
}

/** The settings that all Llama-style decoders read. */
export type DecoderSettings = ReturnType<typeof decoderSettings>;

/** Reads the shared settings. @throws CheckpointError for an invalid setting. */
function decoderSettings(config: ConfigFile, defaults: DecoderDefaults) {
  const hiddenSize = positiveInteger(config, 'hidden_size', defaults.hiddenSize);
  const isSized = defaults.headDim !== undefined || (setting(config, 'head_dim') ?? null) !== null;
  const divides = isSized ? {} : { divides: hiddenSize };
  const numAttentionHeads = positiveInteger(config, 'num_attention_heads', defaults.numAttentionHeads, divides);
  const headDim = positiveInteger(config, 'head_dim', defaults.headDim ?? hiddenSize / numAttentionHeads);
  if (headDim % 2 !== 0) {
    throw fileError(config.file, `'head_dim' must be even, got ${headDim}`);
  }
  const keyHeads = setting(config, 'num_key_value_heads') === null ? undefined : defaults.numKeyValueHeads;
  const vocabSize = positiveInteger(config, 'vocab_size', defaults.vocabSize);
  return {
    vocabSize,
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
    padTokenId: padTokenIdOf(config, vocabSize, defaults.padTokenId),
    dropout: { attention: dropoutRate(config, 'attention_dropout', 0), tokens: tokenDropout(config) },
  };
}

/** Returns the rate of the dropout before a decoder's token classifier. @throws CheckpointError if it is invalid. */
export function tokenDropout(config: ConfigFile): number {
  return dropoutRate(config, 'classifier_dropout', dropoutRate(config, 'hidden_dropout', 0.1));
}

/** Llama's norms: before attention and before the feed-forward module. */
const PRE_NORMS = { beforeAttention: 'input_layernorm', beforeFeedForward: 'post_attention_layernorm' };

/** Returns the attention biases, which `attention_bias` switches on. */
export function attentionBiases(config: ConfigFile): Pick<RotaryDecoderConfig, 'qkvBias' | 'outputBias'> {
  const attentionBias = boolean(config, 'attention_bias', false);
  return { qkvBias: attentionBias, outputBias: attentionBias };
}

/** Returns the biases of Llama, which `attention_bias` and `mlp_bias` switch on. */
export function llamaBiases(config: ConfigFile): Pick<RotaryDecoderConfig, 'qkvBias' | 'outputBias' | 'mlpBias'> {
  return { ...attentionBiases(config), mlpBias: boolean(config, 'mlp_bias', false) };
}

/** Whether a layer attends to a window or to all tokens, in a decoder all earlier ones. */
export type LayerType = 'sliding_attention' | 'full_attention';

/**
 * Returns the type of each layer: `layer_types`, or `usual(layer)` if that is missing.
 * @throws CheckpointError for a list of the wrong length or an unsupported type.
 */
export function layerTypes(
  config: ConfigFile,
  { numHiddenLayers }: Pick<DecoderSettings, 'numHiddenLayers'>,
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

/** How each layer attends. */
interface LayersOf {
  readonly types: readonly LayerType[];
  /** The width of a sliding window in tokens. Null: no window. */
  readonly window: number | null;
  readonly rope: (type: LayerType, layer: number) => RopeConfig | undefined;
}

/**
 * Returns layers of the given types. A window at least as wide as the longest text is left out.
 * @throws CheckpointError when a layer needs a sliding window and there is none.
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
      throw fileError(file, `'layer_types' has "sliding_attention", but there is no window`);
    }
    return window < maxPositionEmbeddings ? { ...own, window } : own;
  });
}

/** Returns identical layers. With `window` null, each token attends to all earlier ones. */
export function evenLayers(
  config: ConfigFile,
  settings: DecoderSettings,
  { rope, window = null }: { readonly rope: RopeConfig; readonly window?: number | null },
): RotaryLayer[] {
  const type = window === null ? 'full_attention' : 'sliding_attention';
  const types = Array.from({ length: settings.numHiddenLayers }, (): LayerType => type);
  return typedLayers(config, settings, { types, window, rope: () => rope });
}
