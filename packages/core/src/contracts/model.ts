import type { Tensor } from '@tensorflow/tfjs-core';
import type { Axis } from './executor.js';
import type { Site } from './site.js';
import type { HostTensor, HostTensors, Tensors } from '../tensors.js';

/**
 * A pretrained network: named weights on the host and a pure forward pass over them. Weights are TF.js-oriented
 * (`[inFeatures, outFeatures]`) and named by module path: `<path>.weight`, `<path>.bias`.
 */
export interface Model {
  /** The name the user loaded it by: a folder, a package or a hub id. */
  readonly name: string;
  /** The branch, tag or commit of the hub that the user asked for. Default: none, that is main. */
  readonly revision?: string;
  /** The commit of the hub that it was read from: its other files and weights are read from there, too. */
  readonly commit?: string;
  /** A hash of the architecture and of every weight. */
  readonly fingerprint: string;
  /** The modules a method may adapt, in the order of the forward pass. */
  readonly sites: readonly Site[];
  /** The frozen weights, by `<path>.weight` and `<path>.bias`. */
  readonly weights: HostTensors;
  /**
   * The modules of the task head, or modules that contain them, as PEFT's `modules_to_save` names them. Every method
   * trains them, and no budget counts them. Empty for a causal language model, whose head is frozen.
   */
  readonly head: readonly string[];
  /** Whether the head is already trained, as a whole or at these paths. Adapters then start from its weights. */
  readonly pretrainedHead?: boolean | readonly string[];
  /** The module suffixes that are adapted when the user names none. */
  readonly defaultTargetModules: readonly string[];
  /** Embeddings whose rows are gathered on the host while they are frozen, so that the table never enters the graph. */
  readonly lookups: readonly Lookup[];
  /**
   * Modules that use another module's weight, as a language model's head uses the word embeddings. They are adapted
   * only where a configuration names them, and an adapter then changes the two independently, as in PEFT.
   */
  readonly tied?: readonly TiedModule[];
  /**
   * Modules that no output depends on, e.g. the pooler of an embedding network. They are not sites. PEFT can adapt
   * them; an adapter file's tensors for them are skipped with a warning.
   */
  readonly unused?: readonly string[];
  /** Small files that are saved beside each of its adapters, by name: what else is needed to use them. Default: none. */
  readonly besideAdapters?: ReadonlyMap<string, Uint8Array>;
  /** Loads the same model with its original float32 weights, where these are held in few bits. See `fullPrecision`. */
  readonly fullPrecision?: () => Promise<Model>;
  /** Returns the same network with another head, for this number of outputs or these names of them. */
  readonly withLabels?: (labels: number | readonly string[], meaning?: Pick<Model, 'problemType'>) => Model;
  /** Whether adapters were merged into its weights, so that `name` is that of another network. Default false. */
  readonly isMerged?: boolean;
  /** The task the outputs are for. Default 'sequence-classification'. */
  readonly task?: Task;
  /** The number of outputs: classes, or words of a vocabulary. Default: the outputs of the head's last module. */
  readonly outputs?: number;
  /** Class names in the order of the outputs, all different. None for regression and language models. */
  readonly labels?: readonly string[];
  /**
   * The kind of problem a text classifier solves. Default: regression for one output, otherwise single-label
   * classification.
   */
  readonly problemType?: ProblemType;
  /** Whether a language model was trained on conversations: it answers messages, rather than continues texts. */
  readonly isChat?: boolean;
  /**
   * For each input, the names of the axes whose size differs from batch to batch, e.g.
   * `{ inputIds: ['batch', 'tokens'] }`: one program serves all their sizes. Default: 'batch' for a first axis of the
   * batch's rows, and 'tokens' for a second axis as long as that of `attentionMask`.
   */
  readonly axes?: Readonly<Record<string, readonly Axis[]>>;
  /**
   * The network's own dropout: the rate in its published configuration at each place where its forward pass calls
   * `Scope.dropout`, by the place's name. Default: none.
   */
  readonly dropouts?: Readonly<Record<string, number>>;
  /**
   * The most tokens a row may have; batches with longer rows are rejected before they are computed. Default: no limit.
   */
  readonly maxTokens?: number;
  /**
   * Computes the outputs for the inputs of a batch: logits `[batch, classes]`, logits `[batch, tokens, classes]` for a
   * token task, or embeddings `[batch, width]` for feature extraction.
   */
  forward(scope: Scope, inputs: Tensors): Tensor;
  /**
   * `forward` in two parts, split before a head of texts or of words. Training only a head of texts runs the first part
   * once per text, and keeps its features in memory. The loss of a language model is computed for some words at a time.
   */
  readonly split?: SplitForward;
  /** Decoding with cached keys and values, for causal language models. Exported graphs generate text with it. */
  readonly withPast?: PastDecoding;
  /**
   * Computes the token embeddings `[batch, tokens, width]` that `forward` pools, for feature extraction. Exports need
   * them because transformers.js does its own pooling.
   */
  tokenEmbeddings?(scope: Scope, inputs: Tensors): Tensor;
}

/** A forward pass over texts in two parts. The features of a text do not depend on the other texts of its batch. */
export interface SplitForward {
  /** The composition of both parts. A model with another `forward`, such as a wrapped one, is not split. */
  forward(scope: Scope, inputs: Tensors): Tensor;
  /**
   * Computes the head's input, [batch, width] or [batch, tokens, width], from the inputs of a batch, without any module
   * of the head.
   */
  features(scope: Scope, inputs: Tensors): Tensor;
  /** Computes the outputs from the head's input, with modules of the head only. */
  outputs(scope: Scope, features: Tensor): Tensor;
}

/** A module without a weight of its own. */
export interface TiedModule {
  /** The module as methods see it, e.g. `lm_head`: linear, without a bias. */
  readonly site: Site;
  /** The path of the embedding whose table [outFeatures, inFeatures], transposed, is its weight. */
  readonly table: string;
}

/** Returns whether a network reads images instead of texts. */
export function readsImages({ axes }: { readonly axes?: Model['axes'] | undefined }): boolean {
  return axes?.['pixelValues'] !== undefined;
}

/** Returns the modules that a method may adapt: first those with weights of their own, then the tied ones. */
export function allSites({ sites, tied = [] }: Pick<Model, 'sites' | 'tied'>): readonly Site[] {
  return tied.length === 0 ? sites : [...sites, ...tied.map(({ site }) => site)];
}

/** How a language model decodes new tokens from the cached keys and values of the earlier ones. */
export interface PastDecoding {
  /** The number of layers that cache keys and values. */
  readonly layers: number;
  /** The number of key heads in each layer; there are as many value heads. */
  readonly keyHeads: number;
  /** The number of features of each head. */
  readonly headDim: number;
  /** The most tokens of a text, past and new together, where that is less than the model reads without a cache. */
  readonly maxTokens?: number;
  /**
   * Computes the logits of new tokens.
   *
   * Inputs: `inputIds` and `positions`, int32 [batch, tokens]; `attentionMask`, float32 [batch, past + tokens]; for
   * each layer `past_key_values.<layer>.key` and `.value`, [batch, keyHeads, past, headDim]. Padding may be anywhere:
   * positions and mask mark it.
   *
   * Outputs: `logits` [batch, tokens, words], and for each layer the cache to pass with the next tokens,
   * `present.<layer>.key` and `.value`, [batch, keyHeads, past + tokens, headDim].
   */
  forward(scope: Scope, inputs: Tensors): Tensors;
}

/**
 * What a model predicts: a label of a text (or a number, for one class), a label of each token, the next token, or an
 * embedding.
 */
export type Task = 'sequence-classification' | 'token-classification' | 'causal-lm' | 'feature-extraction';

/**
 * The kind of problem a text classifier solves, by transformers' names: one label, any number of labels, or a number.
 */
export type ProblemType = 'single_label_classification' | 'multi_label_classification' | 'regression';

/** A frozen embedding whose rows are gathered on the host. */
export interface Lookup {
  /** The embedding's module path. */
  readonly site: string;
  /** The batch input that holds its row numbers. */
  readonly ids: string;
}

/** How a forward pass reaches its modules. Methods can act only here. */
export interface Scope {
  /** Computes y = x W + b at `path`: x `[.., in]` -> `[.., out]`. */
  linear(path: string, x: Tensor): Tensor;
  /** Gathers rows of the table at `path`: ids `[..]` -> `[.., dim]`. */
  embedding(path: string, ids: Tensor): Tensor;
  /** Normalises x over the last axis, scales it by the weight at `path`, and adds the module's bias if it has one. */
  layerNorm(path: string, x: Tensor, epsilon: number): Tensor;
  /**
   * Divides x by its root mean square over the last axis and scales it by the weight at `path` plus `offset` (default
   * 0).
   */
  rmsNorm(path: string, x: Tensor, epsilon: number, offset?: number): Tensor;
  /** Returns a frozen tensor by its full name. */
  weight(name: string): Tensor;
  /**
   * Applies the network's own dropout to x `[.., features]` at a place of the model's `dropouts`. Returns x itself
   * outside training, and in training without it.
   */
  dropout(name: string, x: Tensor): Tensor;
}

/**
 * Rows that go through the network together, padded to one shape. Of a batch that you make yourself, `predict` and
 * `evaluate` return the outputs in the order of `rows`.
 */
export interface InputBatch {
  /** The model's inputs, e.g. `inputIds` [batch, tokens] int32 and `attentionMask` [batch, tokens] float32. */
  readonly inputs: HostTensors;
  /** 1 for a row of the data, 0 for a row that only fills the batch, [batch]. */
  readonly rowWeights: HostTensor;
  /**
   * The rows' numbers in the data set, for messages and `EvaluationData.summarise`. It is shorter than the batch where
   * rows of weight 0 fill the batch.
   */
  readonly rows: readonly number[];
  /** Set by functions that sort rows before they cut them into batches, so that outputs get their order back. */
  readonly sorted?: SortedRows;
  /**
   * The number of texts per row, e.g. 2 for a pair. The model reads the first texts of all rows before the second ones:
   * inputs are [columns * batch, tokens]. Default 1.
   */
  readonly columns?: number;
  /** The names of the axes of inputs that only the loss reads, as in `Model.axes`. `withInputs` sets them. */
  readonly axes?: Model['axes'];
}

/** Where the rows of a batch stood before they were sorted. */
interface SortedRows {
  /** The place of each row, from 0. */
  readonly places: readonly number[];
  /** The number of rows that were sorted together. */
  readonly of: number;
}

/** A batch with labels. */
export interface Batch extends InputBatch {
  /**
   * The labels, by task:
   * - class numbers (int32) or finite targets (float32), [batch]
   * - multi-label: 1 for each label that a row has and 0 for the others (float32), [batch, labels]
   * - token tasks: class numbers [batch, tokens], -100 for a token without a label
   * - preferences: the tokens of both answers [2 * batch, tokens], -100 for prompts and padding
   */
  readonly labels: HostTensor;
}

/**
 * The kind of labels that data has.
 * - `'classification'`: a class for each row; `'multi-label'`: any number of classes; `'regression'`: a number
 * - `'token-classification'`: a class for each token
 * - `'causal-lm'`: the input tokens themselves; the model predicts each one from those before it
 * - `'preferences'`: the tokens of two answers to a prompt, the chosen one and the rejected one
 * - `'pairs'`: none; a row is two texts that belong together. `'triplets'`: plus one or more texts that do not
 * - `'scored-pairs'`: a number for how similar the two texts of a row are
 */
export type DataKind =
  | 'classification'
  | 'multi-label'
  | 'regression'
  | 'token-classification'
  | 'causal-lm'
  | 'preferences'
  | 'pairs'
  | 'triplets'
  | 'scored-pairs';

/** Labelled batches in a seeded order that is the same for every method. */
export interface TrainingData {
  /** The kind of labels. */
  readonly kind: DataKind;
  /** Whether the rows are conversations, which an adapter trained on them remembers. Default false. */
  readonly isChat?: boolean;
  /** Returns the batches of an epoch (0, 1, ..), in order. Every epoch has the same number of batches. */
  epoch(index: number): readonly Batch[];
  /** The number of batches in each epoch. */
  readonly batchesPerEpoch: number;
  /**
   * Splits off `rows` rows, chosen by a seed: a controller's probes are measured on them. Methods that probe cannot
   * train on data without this function. @throws ConfigError unless both parts get a row.
   */
  holdOut?(rows: number): HeldOut;
}

/** Training data that was split in two. */
interface HeldOut {
  /** The rows that are left for training. */
  readonly rest: TrainingData;
  /** Batches of the rows that are kept from training. */
  readonly heldOut: readonly Batch[];
}

/**
 * A prediction or a true label: a class number, a value, or a list of 0 and 1 by label, of tags, or of document
 * numbers.
 */
export type RowValue = number | string | readonly (number | string)[];

/** The predictions and the true labels of all rows, in the order of the outputs. */
export interface RowPredictions {
  /** The prediction for each row. */
  readonly predicted: readonly RowValue[];
  /** The true label of each row. */
  readonly actual: readonly RowValue[];
}

/** Batches to evaluate a model on. */
export interface EvaluationData {
  /** The batches. Labels are checked where they are given; `score` has its own. */
  readonly batches: readonly (InputBatch & Partial<Batch>)[];
  /**
   * Reduces the outputs of one row, given by its number, to what `score` needs, so that the outputs of all rows are
   * never in memory at once. `outputs` is a view into its batch: copy what you keep. Default: keeps the outputs.
   */
  summarise?(row: number, outputs: Float32Array): Float32Array;
  /**
   * Whether `score` also takes two numbers in place of a language model's outputs for a row: the sum of -log p over its
   * labelled tokens but the first, and their number; for rows of several texts, two numbers for each. The logits of a
   * large vocabulary then never exist whole. Data without `summarise` always get them. Default false.
   */
  readonly takesSurprise?: boolean;
  /**
   * Returns the same data with what the frozen model gives them, so that `score` compares the model with it, as for the
   * rewards of preferences.
   * @param outputs the frozen model's, as `score` takes them
   */
  withReference?(outputs: readonly Float32Array[]): EvaluationData;
  /**
   * Computes the metrics from the outputs `[classes]` of each row, or from what `summarise` returned, in the order in
   * which `predict` returns them for `batches`.
   */
  score(outputs: readonly Float32Array[]): Record<string, number>;
  /** Returns the predictions and true labels of all rows. Left out where rows are not judged one by one. */
  predictions?(outputs: readonly Float32Array[]): RowPredictions;
  /**
   * Computes the metrics of these rows, given by their places in `of`, except those that need outputs; a row counts as
   * often as it is listed. Needed to resample rows. Left out together with `predictions`.
   */
  scoreRows?(of: RowPredictions, rows: readonly number[]): Record<string, number>;
  /** The metric that selects a checkpoint. Higher is better unless `lowerIsBetter`. */
  readonly primaryMetric: string;
  /** Whether a lower `primaryMetric` is better, as for perplexity. Default false. */
  readonly lowerIsBetter?: boolean;
}
