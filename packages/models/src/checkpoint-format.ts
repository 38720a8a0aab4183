import type { HostTensors, Task } from '@peftjs/core';
import type { Architecture } from './architecture.js';
import type { ModelFolder } from './folder.js';
import type { WeightDtype } from './precision.js';
import type { Tokenizer } from './tokenizer.js';

/** What a folder holds: a network, its weights by module path, oriented as TF.js multiplies them, and its tokenizer. */
export interface Checkpoint {
  readonly architecture: Architecture;
  readonly weights: HostTensors;
  readonly tokenizer: Tokenizer;
  /** The weights of those modules of the head that were trained with it, as many outputs as they have. */
  readonly head: HostTensors;
  /** Names of the classes of a head for the task, where the folder has names for them. */
  readonly labels?: readonly string[];
  /** Of a language model: the tokens that end what it writes. */
  readonly eosTokenIds?: readonly number[];
}

/** A kind of folder that models come in. A new one is a file of its own and an entry in `formats`. */
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
}
