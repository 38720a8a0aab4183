/** What the GGUF file of a model or of an adapter depends on: names and order of weights in llama.cpp. */
import type { Model } from '@peftjs/core';
import { ConfigError, UnsupportedError } from '@peftjs/core/method';
import type * as v from 'valibot';
import type { SourceFiles } from '../checkpoint.js';
import { headsIn } from '../gguf/config-metadata.js';
import { architectureFor, FAMILIES, WRITTEN_TYPES, type Family } from '../gguf/families.js';
import { GGUF_ENDING } from '../gguf/format.js';
import { changesOf, ggufName, type Change } from '../gguf/tensors.js';
import { assertExport } from './files.js';
import type { Transformers } from './settings.js';

/** Where the weights of a model are in llama.cpp. */
export interface GgufTarget {
  /** `general.architecture`. */
  readonly architecture: string;
  readonly family: Family;
  /** The config.json and the type of the model. */
  readonly transformers: Transformers;
  /** Returns how a tensor differs from that of transformers. */
  readonly changes: (tensor: string) => Change | undefined;
}

/**
 * Checks the arguments of a GGUF export.
 * @param own the fields of the options besides those of every export
 * @throws ConfigError naming the argument or the field.
 * @throws UnsupportedError for a model that is not a language model.
 */
export function assertGguf(model: Model, file: string, options: object, own: v.ObjectEntries): void {
  assertExport(model, file, options, own, 'file');
  if (!file.endsWith(GGUF_ENDING)) throw new ConfigError(`file must end in ${GGUF_ENDING}, got ${file}`, 'file');
  if (model.task === 'causal-lm') return;
  throw new UnsupportedError(
    `GGUF files are written for language models, and the task here is '${model.task ?? 'sequence-classification'}': export ONNX instead`,
    'task',
  );
}

/** Returns the target of a model. @throws UnsupportedError for an architecture that is not written. */
export function targetOf({ name }: Model, { transformers }: SourceFiles): GgufTarget {
  const type = transformers?.type.name ?? '';
  const architecture = architectureFor(type) ?? '';
  const family = FAMILIES[architecture];
  if (transformers && family) {
    return { architecture, family, transformers, changes: changesOf(family, headsIn(transformers.config)) };
  }
  throw new UnsupportedError(
    `GGUF files are written for ${WRITTEN_TYPES.join(', ')}, and the type of '${name}' is ${type}`,
    name,
  );
}

/** Returns the tensor of a weight. @throws UnsupportedError when the architecture has none. */
export function tensorOf(weight: string, { family, architecture }: GgufTarget): string {
  const tensor = ggufName(weight, family);
  if (tensor !== undefined) return tensor;
  throw new UnsupportedError(`a GGUF file of a ${architecture} model has no place for '${weight}'`, weight);
}
