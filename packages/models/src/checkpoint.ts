import type { Model } from '@peftjs/core';
import { sizeOf, type HostTensor, type HostTensors } from '@peftjs/core/method';
import {
  formOf,
  quantized,
  quantizedBytes,
  type ProblemType,
  type QuantizedForm,
  type Task,
  type WeightDtype,
} from '@peftjs/core/model';
import type { GgufTensor, MetadataValue } from '@peftjs/gguf';
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
  /** The content of preprocessor_config.json, for a network that reads images. */
  readonly preprocessor?: unknown;
  /** The exported graph that the model was read from, if it was, for the package that writes it back. */
  readonly graph?: object;
}

/** The files of a model folder, other than weights, that an exported model copies. */
export interface SourceFiles {
  /** The tokenizer's files by name, including tokenizer.json; of a network of images, preprocessor_config.json. */
  readonly tokenizer: ReadonlyMap<string, Uint8Array>;
  /** The config.json and the model type it names. Only for a folder of transformers. */
  readonly transformers?: { readonly config: ConfigFile; readonly type: ModelType };
  /** What a GGUF file says besides its weights and how it holds them. Only for such a file. */
  readonly gguf?: GgufContent;
}

/** The content of a GGUF file besides its weights. */
export interface GgufContent {
  /** The metadata. */
  readonly metadata: ReadonlyMap<string, MetadataValue>;
  /** The tensors that are settings, by name. */
  readonly besides: ReadonlyMap<string, GgufTensor>;
}

/** A format of model folders. Pass your own to `fromPretrained` as `formats`. */
export interface CheckpointFormat {
  /** The name of the format, for messages. */
  readonly name: string;
  /** The file that identifies a folder of this format. */
  readonly marker: string;
  /** Files that make a folder one of another format in spite of the marker. Default: none. */
  readonly unless?: readonly string[];
  /**
   * Whether it reads the network of a folder with the marker. If not, a format that was passed over because of its
   * `unless` reads the folder. Default: yes.
   */
  knows?(folder: ModelFolder): Promise<boolean>;
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

/** A format whose models are named by a file. Pass your own to `fromPretrained` as `formats`. */
export interface FileFormat {
  /** The ending of the files' names, e.g. '.gguf'. */
  readonly ending: string;
  /** Returns the folder of the model in a file, and its format. */
  locate(path: string): { readonly folder: string; readonly format: CheckpointFormat };
}

/** How each weight of a network is held in memory. */
export interface Precision {
  /** Returns the form of the weight of that name; undefined for float32. */
  form(name: string): QuantizedForm | undefined;
  /** Returns the memory that a weight needs, in bytes. */
  bytes(name: string, shape: readonly number[]): number;
  /** Converts a weight to the form in which it is held. */
  hold(name: string, weight: HostTensor): HostTensor;
}

/**
 * Returns how the weights of a network are held. Weights outside `sites` and `encodeOnly`, such as the head's, are
 * float32: the head is trained.
 */
export function precisionOf(
  dtype: WeightDtype,
  { sites, encodeOnly }: Pick<Network, 'sites' | 'encodeOnly'>,
): Precision {
  const forms = new Map<string, QuantizedForm>(
    [...sites, ...encodeOnly].flatMap((site) => {
      const form = formOf(dtype, site);
      return form ? [[`${site.path}.weight`, form] as const] : [];
    }),
  );
  return {
    form: (name) => forms.get(name),
    bytes(name, shape) {
      const [form, [count = 1, width = 1]] = [forms.get(name), shape];
      return form ? quantizedBytes(form, count, width) : sizeOf(shape) * Float32Array.BYTES_PER_ELEMENT;
    },
    hold(name, weight) {
      const form = forms.get(name);
      return form ? quantized(weight, form) : weight;
    },
  };
}
