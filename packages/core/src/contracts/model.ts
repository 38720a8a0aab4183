import type { Tensor } from '@tensorflow/tfjs';
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
  /** Path of the task head: trained with every method, left out of every budget. */
  readonly head: string;
  /** Whether the head's weights are trained ones: adapters then start from them instead of drawing new ones. */
  readonly pretrainedHead?: boolean;
  /** Module suffixes that are adapted when the user names none. */
  readonly defaultTargetModules: readonly string[];
  /** Embeddings whose rows are gathered on the host while they are frozen: the table never enters the graph. */
  readonly lookups: readonly Lookup[];
  /** Logits `[batch, classes]` from the inputs of a batch. */
  forward(scope: Scope, inputs: Tensors): Tensor;
}

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
  /** Normalised over the last axis, scaled and shifted by the module at `path`. */
  layerNorm(path: string, x: Tensor, epsilon: number): Tensor;
  /** A frozen tensor by its whole name. */
  weight(name: string): Tensor;
}

/** Rows of one shape that go through the network together. */
export interface Batch {
  /** What the model reads, e.g. `inputIds` [batch, tokens] int32 and `attentionMask` [batch, tokens] float32. */
  readonly inputs: HostTensors;
  /** Class numbers (int32) or targets (float32), [batch]. */
  readonly labels: HostTensor;
  /** 1 for a row, 0 for one that only fills the batch, [batch]. */
  readonly rowWeights: HostTensor;
  /** Row numbers in the data set; shorter than the batch when it is filled up. */
  readonly rows: readonly number[];
}

/** Labelled batches in a seeded order that is the same for every method. */
export interface TrainingData {
  readonly objective: 'classification' | 'regression';
  /** The batches of an epoch (0, 1, ..), in order. Every epoch has the same number of them. */
  epoch(index: number): readonly Batch[];
  readonly batchesPerEpoch: number;
}

/** Batches to judge a model by. */
export interface EvaluationData {
  readonly batches: readonly Batch[];
  /** Metrics of the outputs `[rows, classes]`, row after row as in the data set. */
  score(outputs: readonly Float32Array[]): Record<string, number>;
  /** The metric that selects a checkpoint; higher is better. */
  readonly primaryMetric: string;
}
