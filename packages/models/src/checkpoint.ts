import type { Model } from '@peftjs/core';
import {
  ConfigError,
  quantized,
  sizeOf,
  takesQuantized,
  type HostTensor,
  type HostTensors,
  type ProblemType,
  type Task,
} from '@peftjs/core/method';
import type { Architecture, Network } from './architecture.js';
import type { ModelFolder } from './folder.js';
import { shown } from './json.js';
import type { Tokenizer } from './tokenizer.js';
import type { ConfigFile, ModelType } from './transformers/config.js';
import type { EmbeddingSettings } from './transformers/sentence-transformers.js';

/** What a folder holds: a network, its weights by module path, oriented as TF.js multiplies them, and its tokenizer. */
export interface Checkpoint {
  readonly architecture: Architecture;
  readonly weights: HostTensors;
  readonly tokenizer: Tokenizer;
  /** Weights that the network does not read, and that a model is written with. */
  readonly carried?: HostTensors;
  /** The weights of those modules of the head that were trained with it, as many outputs as they have. */
  readonly head: HostTensors;
  /** Names of the classes of a head for the task, where the folder has names for them. */
  readonly labels?: readonly string[];
  /** What the outputs of such a head mean, where the folder says so. */
  readonly problemType?: ProblemType;
  /** How it embeds texts, where the folder says so; read for the task 'feature-extraction' alone. */
  readonly embedding?: EmbeddingSettings;
  /** Of a language model: the tokens that end what it writes. */
  readonly eosTokenIds?: readonly number[];
}

/** What a model's own folder holds besides its weights: an exported model takes it over. */
export interface SourceFiles {
  /** The files of the tokenizer by name; tokenizer.json is among them. */
  readonly tokenizer: ReadonlyMap<string, Uint8Array>;
  /** For a folder of transformers. */
  readonly transformers?: { readonly config: ConfigFile; readonly type: ModelType };
}

/** A kind of folder that models come in. One of your own is passed to `fromPretrained` as `formats`. */
export interface CheckpointFormat {
  /** What the format is called in messages. */
  readonly name: string;
  /** The file by which a folder is recognised. */
  readonly marker: string;
  /**
   * `dtype`: how the weights are held.
   * @throws CheckpointError for anything missing, broken or unknown.
   * @throws UnsupportedError for a task that the network has no head for.
   */
  read(folder: ModelFolder, task: Task, dtype: WeightDtype): Promise<Checkpoint>;
  /**
   * What an exported model takes from the folder; left out where models of the kind cannot be exported.
   * @throws CheckpointError for anything missing or broken.
   */
  files?(folder: ModelFolder, model: Pick<Model, 'sites'>): Promise<SourceFiles>;
}

/**
 * How weights are held in memory, as transformers.js names it: as float32, or the matrices of linear modules in 8 bits with a
 * scale for each output, a quarter of the size. The head is trained, and float32 in either case.
 */
export type WeightDtype = 'fp32' | 'q8';

const DTYPES: readonly string[] = ['fp32', 'q8'] satisfies WeightDtype[];

/** What becomes of a network's weights as they are read. */
export interface Precision {
  /** Whether a weight is held in 8 bits. */
  quantizes(name: string): boolean;
  /** The memory that a weight takes. */
  bytes(name: string, shape: readonly number[]): number;
  /** A weight as it is held. */
  hold(name: string, weight: HostTensor): HostTensor;
}

/** How the weights of a network are held; those of modules that are none of it, its head's, as float32. */
export function precisionOf(
  dtype: WeightDtype,
  { sites, encodeOnly }: Pick<Network, 'sites' | 'encodeOnly'>,
): Precision {
  const own = dtype === 'q8' ? [...sites, ...encodeOnly].filter(takesQuantized) : [];
  const names = new Set(own.map(({ path }) => `${path}.weight`));
  const scales = (shape: readonly number[]): number => (shape.at(-1) ?? 0) * Float32Array.BYTES_PER_ELEMENT;
  return {
    quantizes: (name) => names.has(name),
    bytes: (name, shape) =>
      names.has(name) ? sizeOf(shape) + scales(shape) : sizeOf(shape) * Float32Array.BYTES_PER_ELEMENT,
    hold: (name, weight) => (names.has(name) ? quantized(weight) : weight),
  };
}

/** @throws ConfigError for a type that weights are not held in. */
export function parsedDtype(dtype: WeightDtype = 'fp32'): WeightDtype {
  if (DTYPES.includes(dtype)) return dtype;
  throw new ConfigError(
    `fromPretrained: option 'dtype' is ${shown(dtype)}; expected 'fp32' or 'q8': weights are held so whatever the file has`,
    'dtype',
  );
}
