import type { Model } from '@peftjs/core';
import { sizeOf, type HostTensor, type HostTensors } from '@peftjs/core/method';
import { canQuantize, quantized, type ProblemType, type Task } from '@peftjs/core/model';
import type { Architecture, Network } from './architecture.js';
import type { ModelFolder } from './folder.js';
import type { Tokenizer } from './tokenizer.js';
import type { ConfigFile, ModelType } from './transformers/config.js';
import type { EmbeddingSettings } from './transformers/sentence-transformers.js';

/** The content of a model folder. */
export interface Checkpoint {
  /** The network with its head. */
  readonly architecture: Architecture;
  /** The network's weights, named by module path, with matrices as [in, out]. */
  readonly weights: HostTensors;
  /** The model's tokenizer. */
  readonly tokenizer: Tokenizer;
  /** Weights that the network does not use, but that are saved with the model. */
  readonly carried?: HostTensors;
  /** The head's weights, where the checkpoint has them; their number of outputs is the checkpoint's. */
  readonly head: HostTensors;
  /** The names of the classes, if the folder has them. */
  readonly labels?: readonly string[];
  /** What the head's outputs mean, if the folder says so. */
  readonly problemType?: ProblemType;
  /** How texts are embedded, if the folder says so. Only read for the task 'feature-extraction'. */
  readonly embedding?: EmbeddingSettings;
  /** The IDs of the tokens that end a generated text, for a language model. */
  readonly eosTokenIds?: readonly number[];
}

/** The files of a model folder, other than weights, that an exported model copies. */
export interface SourceFiles {
  /** The tokenizer's files by name, including tokenizer.json. */
  readonly tokenizer: ReadonlyMap<string, Uint8Array>;
  /** The config.json and the model type it names. Only for a folder of transformers. */
  readonly transformers?: { readonly config: ConfigFile; readonly type: ModelType };
}

/** A format of model folders. Pass your own to `fromPretrained` as `formats`. */
export interface CheckpointFormat {
  /** The name of the format, for messages. */
  readonly name: string;
  /** The file that identifies a folder of this format. */
  readonly marker: string;
  /**
   * Reads a folder.
   * @param dtype How the weights are held in memory.
   * @throws CheckpointError for a missing, broken or unknown file or setting.
   * @throws UnsupportedError when the network has no head for the task.
   */
  read(folder: ModelFolder, task: Task, dtype: WeightDtype): Promise<Checkpoint>;
  /**
   * Reads the files that an exported model copies. Absent if models of this format cannot be exported.
   * @throws CheckpointError for a missing or broken file.
   */
  files?(folder: ModelFolder, model: Pick<Model, 'sites'>): Promise<SourceFiles>;
}

/**
 * How weights are held in memory, named as in transformers.js. `fp32`: all as float32. `q8`: the matrices of linear
 * modules in 8 bits with a scale per output, a quarter of the size. The head is trained, so it is always float32.
 */
export type WeightDtype = 'fp32' | 'q8';

/** How each weight of a network is held in memory. */
export interface Precision {
  /** Whether the weight of that name is held in 8 bits. */
  quantizes(name: string): boolean;
  /** Returns the memory that a weight needs, in bytes. */
  bytes(name: string, shape: readonly number[]): number;
  /** Converts a weight to the form in which it is held. */
  hold(name: string, weight: HostTensor): HostTensor;
}

/**
 * Returns how the weights of a network are held. Weights outside `sites` and `encodeOnly`, such as the head's, are
 * float32.
 */
export function precisionOf(
  dtype: WeightDtype,
  { sites, encodeOnly }: Pick<Network, 'sites' | 'encodeOnly'>,
): Precision {
  const own = dtype === 'q8' ? [...sites, ...encodeOnly].filter(canQuantize) : [];
  const names = new Set(own.map(({ path }) => `${path}.weight`));
  const scales = (shape: readonly number[]): number => (shape.at(-1) ?? 0) * Float32Array.BYTES_PER_ELEMENT;
  return {
    quantizes: (name) => names.has(name),
    bytes: (name, shape) =>
      names.has(name) ? sizeOf(shape) + scales(shape) : sizeOf(shape) * Float32Array.BYTES_PER_ELEMENT,
    hold: (name, weight) => (names.has(name) ? quantized(weight) : weight),
  };
}
