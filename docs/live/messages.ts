/*
 * The messages between the live page and its worker. The page holds no tensors and computes nothing: it sends sentences
 * and settings, and draws the results. Nothing leaves the tab.
 */

/** The methods that the page offers; `sora-auto` is SoRA with an automatically chosen size. */
export type MethodName = 'sora' | 'sora-auto' | 'adalora' | 'lora';

/** Labelled sentences in editable form: TSV with the columns `label` and `text`. */
export interface Sentences {
  readonly train: string;
  readonly heldOut: string;
}

/** The settings of a training run. */
export interface TrainingRequest {
  readonly method: MethodName;
  readonly epochs: number;
  readonly seed: number;
  /** The amount by which SoRA shrinks each gate at every step. */
  readonly threshold: number;
  readonly sentences: Sentences;
}

/** From the page to the worker. */
export type ToWorker =
  | ({ readonly kind: 'train' } & TrainingRequest)
  | { readonly kind: 'threshold'; readonly threshold: number }
  | { readonly kind: 'stop' }
  /** Requests a prediction; replaces earlier requests that are still waiting. */
  | { readonly kind: 'predict'; readonly text: string }
  /** Requests the adapter as a zip file. */
  | { readonly kind: 'save' };

/** The device that computes, and why no faster one is used. */
export interface DeviceReport {
  readonly backend: 'webgpu' | 'wasm';
  readonly threads: number;
  /** One line for each feature that the browser or the address lacks. */
  readonly notes: readonly string[];
}

/** The metrics of the held-out sentences. */
export interface Scores {
  readonly accuracy: number;
  readonly macroF1: number;
}

/** The sizes of the ranks of a module. */
export interface ModuleRanks {
  readonly path: string;
  readonly layer: number;
  /** One size per rank; exactly 0 for a pruned rank. */
  readonly sizes: readonly number[];
}

/** The state of a training run after a step. */
export interface Progress {
  readonly step: number;
  readonly totalSteps: number;
  readonly loss: number;
  readonly milliseconds: number;
  /** Parameters that the adapter stores, without the head. */
  readonly parameters: number;
  readonly modules: readonly ModuleRanks[];
}

/** The result of one stage of the search for the adapter's size. */
export interface SizePoint {
  readonly parameters: number;
  /** The score on a sample of the training sentences, in percent of the dense adapter; null if there is none. */
  readonly memorization: number | null;
  /** The same on the held-out sentences. */
  readonly generalization: number | null;
}

/** The size that the search chose. */
export interface SizeChoice {
  readonly parameters: number;
  readonly reason: string;
}

/** The predictions for a text: one probability per class, in the order of `classes`. */
export interface Prediction {
  readonly text: string;
  readonly classes: readonly string[];
  /** Predicted by the frozen encoder with a trained head. */
  readonly before: readonly number[];
  /** Predicted with the current adapter; undefined before there is one. */
  readonly after?: readonly number[];
}

/** From the worker to the page. */
export type FromWorker =
  | { readonly kind: 'loading'; readonly loadedBytes: number; readonly totalBytes: number }
  | { readonly kind: 'device'; readonly device: DeviceReport }
  /** Progress of training a head on the frozen encoder, for comparison. */
  | { readonly kind: 'preparing'; readonly step: number; readonly totalSteps: number }
  | { readonly kind: 'frozen'; readonly scores: Scores; readonly baseParameters: number }
  | ({ readonly kind: 'progress' } & Progress)
  | { readonly kind: 'scores'; readonly step: number; readonly scores: Scores }
  | ({ readonly kind: 'size' } & SizePoint)
  | ({ readonly kind: 'chosen' } & SizeChoice)
  | { readonly kind: 'ended'; readonly how: 'finished' | 'stopped' }
  | ({ readonly kind: 'prediction' } & Prediction)
  | { readonly kind: 'unpredictable'; readonly text: string; readonly reason: string }
  | { readonly kind: 'adapter'; readonly name: string; readonly zip: Uint8Array<ArrayBuffer> }
  | { readonly kind: 'failed'; readonly reason: string };
