/*
 * What the live page and its worker say to each other. The page holds no tensor and computes nothing: it sends sentences and
 * settings, and draws what comes back. Nothing of it leaves the tab.
 */

/** The methods that the page offers; `sora-auto` is SoRA that chooses its size. */
export type MethodName = 'sora' | 'sora-auto' | 'adalora' | 'lora';

/** Labelled sentences as the reader edits them: TSV with the columns `label` and `text`. */
export interface Sentences {
  readonly train: string;
  readonly heldOut: string;
}

/** How to train. */
export interface TrainingRequest {
  readonly method: MethodName;
  readonly epochs: number;
  readonly seed: number;
  /** What SoRA takes from every gate at every step. */
  readonly threshold: number;
  readonly sentences: Sentences;
}

/** From the page to the worker. */
export type ToWorker =
  | ({ readonly kind: 'train' } & TrainingRequest)
  | { readonly kind: 'threshold'; readonly threshold: number }
  | { readonly kind: 'stop' }
  /** A prediction of the newest text asked about; older questions that still wait are dropped. */
  | { readonly kind: 'predict'; readonly text: string }
  | { readonly kind: 'save' };

/** What computes here, and why it is nothing faster. */
export interface DeviceReport {
  readonly backend: 'webgpu' | 'wasm';
  readonly threads: number;
  /** One clear line for each thing that this browser or this address lacks. */
  readonly notes: readonly string[];
}

/** The metrics of the held-out sentences. */
export interface Scores {
  readonly accuracy: number;
  readonly macroF1: number;
}

/** How large the ranks of a module are. */
export interface ModuleRanks {
  readonly path: string;
  readonly layer: number;
  /** A size of each rank; exactly 0 for one that is gone. */
  readonly sizes: readonly number[];
}

/** A training run after a step. */
export interface Progress {
  readonly step: number;
  readonly totalSteps: number;
  readonly loss: number;
  readonly milliseconds: number;
  /** Parameters that the adapter stores, head left out. */
  readonly parameters: number;
  readonly modules: readonly ModuleRanks[];
}

/** What a stage of an adapter that chooses its size ended with. */
export interface SizePoint {
  readonly parameters: number;
  /** In percent of the dense adapter: of some training sentences, and of the held-out ones. Null where there is nothing to compare with. */
  readonly memorization: number | null;
  readonly generalization: number | null;
}

/** The size that an adapter chose. */
export interface SizeChoice {
  readonly parameters: number;
  readonly reason: string;
}

/** What a text is taken for: probabilities by class, the same order as `classes`. */
export interface Prediction {
  readonly text: string;
  readonly classes: readonly string[];
  /** Of the frozen encoder with a trained head. */
  readonly before: readonly number[];
  /** With the adapter as it stands; undefined before there is one. */
  readonly after?: readonly number[];
}

/** From the worker to the page. */
export type FromWorker =
  | { readonly kind: 'loading'; readonly loadedBytes: number; readonly totalBytes: number }
  | { readonly kind: 'device'; readonly device: DeviceReport }
  /** The head is trained on the frozen encoder, for comparison. */
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
