/** What differs between Llama-style decoders: see rotary-decoder.ts, whose equations name the settings. */
import type { ActivationName } from '@peftjs/core/nn';
import type { RopeConfig } from './rope.js';

/**
 * The settings of config.json that the network depends on, with their names in camel case, and those fixed for an
 * architecture.
 */
export interface RotaryDecoderConfig {
  /** The `model_type`, and the name of the network in errors. */
  readonly name: string;
  /** The number of tokens in the vocabulary. */
  readonly vocabSize: number;
  /** The width of the hidden states, H. */
  readonly hiddenSize: number;
  /** The width inside the feed-forward module. */
  readonly intermediateSize: number;
  /** The number of query heads. */
  readonly numAttentionHeads: number;
  /** The number of key and value heads; must divide `numAttentionHeads`. */
  readonly numKeyValueHeads: number;
  /** The width of a head; must be even. */
  readonly headDim: number;
  /** The longest sequence, in tokens. */
  readonly maxPositionEmbeddings: number;
  /** Epsilon of the RMS norms. */
  readonly rmsNormEps: number;
  /** Whether the language model head uses the word embedding table. */
  readonly tieWordEmbeddings: boolean;
  /** The padding token, which a text classifier does not read. Default: none. */
  readonly padTokenId?: number | undefined;
  /** The activation of the feed-forward module. */
  readonly hiddenAct: ActivationName;
  /** The layers, from the first to the last. */
  readonly layers: readonly RotaryLayer[];
  /** The norms of a layer. */
  readonly norms: LayerNorms;
  /** Added to the gain of every norm. Default 0. */
  readonly normOffset?: number;
  /** Whether queries and keys are normalised before rotation, per head or over all heads. Default: not at all. */
  readonly queryKeyNorm?: 'head' | 'all';
  /** Whether queries, keys and values have a bias. Default false. */
  readonly qkvBias?: boolean;
  /** Whether the attention's output has a bias. Default false. */
  readonly outputBias?: boolean;
  /** Whether the feed-forward modules have a bias. Default false. */
  readonly mlpBias?: boolean;
  /**
   * Whether q, k and v are one module, `qkv_proj`, and gate and up projections another, `gate_up_proj`. Default false.
   */
  readonly isFused?: boolean;
  /** s, the factor of the scores. Default 1 / sqrt(headDim). */
  readonly attentionScale?: number;
  /** The soft cap of the scores. Default: none. */
  readonly attentionSoftcap?: number;
  /** c, the soft cap of the language model's logits. Default: none. */
  readonly logitSoftcap?: number;
  /** d, the divisor of the language model's logits. Default 1. */
  readonly logitDivisor?: number;
  /** e, the factor of the word embeddings. Default 1. */
  readonly embeddingScale?: number;
  /** r, the factor of each residual update. Default 1. */
  readonly residualScale?: number;
  /** The decoder's dropout rates. Default: none. */
  readonly dropout?: DecoderDropout;
  /** Which classifiers transformers has. Default: for texts and for tokens. */
  readonly classifies?: { readonly texts: boolean; readonly tokens: boolean };
  /**
   * The text length from which the cache is invalid and the text is read again: see decoder.ts. Default: never.
   */
  readonly rebuildCacheAt?: number;
}

/** The rates of a decoder's own dropout. */
export interface DecoderDropout {
  /** Of the attention's weights. */
  readonly attention: number;
  /** Of each residual update. Default: none, not even with a rate for all places. */
  readonly residual?: number;
  /** Before the token classifier. */
  readonly tokens: number;
}

/** The settings that may differ between layers. */
export interface RotaryLayer {
  /** The number of tokens that each token attends to, including itself. Default: all earlier tokens. */
  readonly window?: number;
  /** How queries and keys are rotated. Default: not at all. */
  readonly rope?: RopeConfig;
}

/** The names of a layer's norms, N1 to N4. A norm without a name does not exist. */
interface LayerNorms {
  readonly beforeAttention?: string;
  readonly afterAttention?: string;
  readonly beforeFeedForward?: string;
  readonly afterFeedForward?: string;
}
