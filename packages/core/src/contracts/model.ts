import type { Tensor } from '@tensorflow/tfjs';
import type { Axis } from './executor.js';
import type { Site } from './site.js';
import type { HostTensor, HostTensors, Tensors } from '../tensors.js';

/**
 * A pretrained network: named weights at rest and a pure forward pass over them. Weights are TF.js-oriented
 * (`[inFeatures, outFeatures]`) and named by module path: `<path>.weight`, `<path>.bias`.
 */
export interface Model {
  /** What the user calls it: a folder, a package, a hub id. */
  readonly name: string;
  /** A hash of the architecture and of every weight. */
  readonly fingerprint: string;
  /** The modules a method may act on, in the order of the forward pass. */
  readonly sites: readonly Site[];
  readonly weights: HostTensors;
  /**
   * The modules of the task head, or what they are in, as PEFT's `modules_to_save` names them: trained with every method, left out
   * of every budget. None where the head is frozen: that of a causal language model.
   */
  readonly head: readonly string[];
  /** Whether the head's weights, or those of its modules at these paths, are trained ones: adapters then start from them. */
  readonly pretrainedHead?: boolean | readonly string[];
  /** Module suffixes that are adapted when the user names none. */
  readonly defaultTargetModules: readonly string[];
  /** Embeddings whose rows are gathered on the host while they are frozen: the table never enters the graph. */
  readonly lookups: readonly Lookup[];
  /**
   * Modules that have another's weight instead of their own, as a language model's head has the table of words. Methods act on them
   * where a configuration names them, and each of the two is then changed on its own, as in PEFT.
   */
  readonly tied?: readonly TiedModule[];
  /**
   * Modules that no output depends on, such as the pooler of a network for embeddings, so that they are no sites. PEFT can adapt
   * them; what an adapter has for them is left out, with a warning.
   */
  readonly unread?: readonly string[];
  /** The same model with its own float32 weights, where these are held in 8 bits. See `fullPrecision`. */
  readonly fullPrecision?: () => Promise<Model>;
  /** What its outputs are for. Default 'sequence-classification'. */
  readonly task?: Task;
  /** How many outputs it has: classes, or the words of a vocabulary. Default: those of the last module of its head. */
  readonly outputs?: number;
  /** Names of the classes in the order of the outputs, all different; none for regression and language models. */
  readonly labels?: readonly string[];
  /** What the outputs of a classifier of texts mean. Default: regression for one output, else one label of several. */
  readonly problemType?: ProblemType;
  /**
   * Names of the axes of its inputs that differ from batch to batch, by input, e.g. `{ inputIds: ['batch', 'tokens'] }`: one
   * program serves all their sizes. Default: 'batch' for a first axis of the batch's rows, and 'tokens' for a second one that
   * `attentionMask` has.
   */
  readonly axes?: Readonly<Record<string, readonly Axis[]>>;
  /** Most tokens of a row that it reads: a batch with longer rows is refused before it is computed. Default: any number. */
  readonly maxTokens?: number;
  /**
   * The outputs for the inputs of a batch: logits `[batch, classes]`, `[batch, tokens, classes]` for a task of tokens, or embeddings
   * `[batch, width]` for feature extraction.
   */
  forward(scope: Scope, inputs: Tensors): Tensor;
  /** How a causal language model reads tokens that follow others; exported graphs write texts by it. */
  readonly withPast?: PastDecoding;
  /** The embeddings of tokens `[batch, tokens, width]` that `forward` pools, for feature extraction: transformers.js pools by itself. */
  tokenEmbeddings?(scope: Scope, inputs: Tensors): Tensor;
}

/** A module without a weight of its own. */
export interface TiedModule {
  /** As methods see it, e.g. `lm_head`: linear, without a bias. */
  readonly site: Site;
  /** The path of the embedding whose table [outFeatures, inFeatures] is its weight, transposed. */
  readonly table: string;
}

/** The modules that a method may act on: those with weights of their own before the others. */
export function allSites({ sites, tied = [] }: Pick<Model, 'sites' | 'tied'>): readonly Site[] {
  return tied.length === 0 ? sites : [...sites, ...tied.map(({ site }) => site)];
}

/** How a language model reads tokens that follow others, of which it is given the keys and values alone. */
export interface PastDecoding {
  /** Layers that have keys and values. */
  readonly layers: number;
  /** Heads of keys in each of them; there are as many of values. */
  readonly keyHeads: number;
  /** Features of such a head. */
  readonly headDim: number;
  /** Most tokens of a text, where past and new ones together may be fewer than the model reads at once. */
  readonly maxTokens?: number;
  /**
   * Inputs: `inputIds` and `positions`, int32 [batch, tokens]; `attentionMask`, float32 [batch, past + tokens]; of each layer
   * `past_key_values.<layer>.key` and `.value`, [batch, keyHeads, past, headDim]. Padding may stand anywhere: positions and mask
   * say what it is. Gives `logits` [batch, tokens, words], and as `present.<layer>.key` and `.value`, [batch, keyHeads,
   * past + tokens, headDim], what the next tokens are to be given.
   */
  forward(scope: Scope, inputs: Tensors): Tensors;
}

/** A label for a text (or a number, for one class), for each of its tokens, the token that comes next, or an embedding of the text. */
export type Task = 'sequence-classification' | 'token-classification' | 'causal-lm' | 'feature-extraction';

/** What the outputs of a classifier of texts mean, by transformers' names: one label of several, any number of labels, or a number. */
export type ProblemType = 'single_label_classification' | 'multi_label_classification' | 'regression';

/** An embedding and the batch input that holds its row numbers. */
export interface Lookup {
  readonly site: string;
  readonly ids: string;
}

/** How a forward pass reaches its modules; the only places where a method can act. */
export interface Scope {
  /** y = x W + b at `path`; x `[.., in]` -> `[.., out]`. */
  linear(path: string, x: Tensor): Tensor;
  /** Rows of the table at `path`; ids `[.., ]` -> `[.., dim]`. */
  embedding(path: string, ids: Tensor): Tensor;
  /** Normalised over the last axis, scaled by the module at `path`, and shifted by its bias if it has one. */
  layerNorm(path: string, x: Tensor, epsilon: number): Tensor;
  /** Divided by its root mean square over the last axis and scaled by the module at `path`: by its weight plus `offset`, 0 by default. */
  rmsNorm(path: string, x: Tensor, epsilon: number, offset?: number): Tensor;
  /** A frozen tensor by its whole name. */
  weight(name: string): Tensor;
}

/** Rows of one shape that go through the network together. */
export interface InputBatch {
  /** What the model reads, e.g. `inputIds` [batch, tokens] int32 and `attentionMask` [batch, tokens] float32. */
  readonly inputs: HostTensors;
  /** 1 for a row, 0 for one that only fills the batch, [batch]. */
  readonly rowWeights: HostTensor;
  /** Row numbers in the data set; shorter than the batch where it is filled up with rows of weight 0. */
  readonly rows: readonly number[];
  /**
   * Texts of a row, e.g. 2 of a pair. The model reads them column after column, the first texts of all rows before the second ones:
   * inputs are [columns * batch, tokens]. Default 1.
   */
  readonly columns?: number;
}

/** The same with labels. */
export interface Batch extends InputBatch {
  /**
   * Class numbers (int32) or finite targets (float32), [batch]; 1 for each label that a row has and 0 for the others (float32),
   * [batch, labels]; for a task of tokens class numbers [batch, tokens], -100 where there is none.
   */
  readonly labels: HostTensor;
}

/**
 * What the labels of data are.
 * - `'classification'`: a class for each row; `'multi-label'`: any number of classes; `'regression'`: a number
 * - `'token-classification'`: a class for each token
 * - `'causal-lm'`: the tokens as the model reads them; each one is predicted from those before it
 * - `'pairs'`: none; a row is two texts that belong together. `'triplets'`: and a third that does not
 * - `'scored-pairs'`: how alike the two texts of a row are
 */
export type DataKind =
  | 'classification'
  | 'multi-label'
  | 'regression'
  | 'token-classification'
  | 'causal-lm'
  | 'pairs'
  | 'triplets'
  | 'scored-pairs';

/** Labelled batches in a seeded order that is the same for every method. */
export interface TrainingData {
  readonly kind: DataKind;
  /** The batches of an epoch (0, 1, ..), in order. Every epoch has the same number of them. */
  epoch(index: number): readonly Batch[];
  readonly batchesPerEpoch: number;
  /**
   * The same data without some of its rows, drawn by a seed, and batches of these rows: for the probes of a controller. Data
   * without it cannot train a method that probes. @throws ConfigError unless both sides get a row.
   */
  holdOut?(rows: number): HeldOut;
}

/** Training rows of which some are kept from training. */
interface HeldOut {
  readonly rest: TrainingData;
  readonly heldOut: readonly Batch[];
}

/** A prediction, or what is right: a class by its number, a value, or a list of 0 and 1 by label, of tags, or of documents by number. */
export type RowValue = number | string | readonly (number | string)[];

/** What was predicted for every row of some data, and what is right, in the order of the rows. */
export interface RowPredictions {
  readonly predicted: readonly RowValue[];
  readonly actual: readonly RowValue[];
}

/** Batches to judge a model by. */
export interface EvaluationData {
  /** Labels are checked where there are some; `score` has its own. */
  readonly batches: readonly (InputBatch & Partial<Batch>)[];
  /**
   * What `score` needs of a row, by its number: it takes the outputs' place at once, so that those of all rows are never held
   * together. `outputs` is a view of its batch: copy what is to stay. Default: the outputs themselves.
   */
  summarise?(row: number, outputs: Float32Array): Float32Array;
  /** Metrics of the outputs `[rows, classes]`, row after row as in the data set; with `summarise` of what it made of them. */
  score(outputs: readonly Float32Array[]): Record<string, number>;
  /** What is predicted for every row, beside what is right. Left out where rows are not judged one by one. */
  predictions?(outputs: readonly Float32Array[]): RowPredictions;
  /** The metrics of some of these rows, by number, each as often as it is named: what resampling of rows needs. Left out likewise. */
  scoreRows?(of: RowPredictions, rows: readonly number[]): Record<string, number>;
  /** The metric that selects a checkpoint; higher is better, unless `lowerIsBetter`. */
  readonly primaryMetric: string;
  /** Whether less of `primaryMetric` is better, as of a perplexity. Default false. */
  readonly lowerIsBetter?: boolean;
}
