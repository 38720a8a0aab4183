import type { Task } from '@peftjs/core';
import type { Architecture } from '../architecture.js';
import type { ConfigFile } from './config.js';

/** A `model_type` of transformers. A new one is a file beside its architecture and an entry in `modelTypes`. */
export interface ModelType {
  /** What config.json calls it. */
  readonly name: string;
  /** The classes whose checkpoints hold the network, as messages name them. */
  readonly savedBy: string;
  /** What every key of the network begins with, but in a checkpoint of the bare network. */
  readonly prefix: string;
  /**
   * The network that a config.json describes, with its head for a task.
   * @throws CheckpointError for a setting that is impossible or not computed here.
   * @throws UnsupportedError for a task that it has no head for.
   */
  architecture(config: ConfigFile, task: Task): Architecture;
}
