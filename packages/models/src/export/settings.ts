/** The config.json of an exported model: its source's, updated for the current head. */
import type { Model } from '@peftjs/core';
import { ConfigError } from '@peftjs/core/method';
import {
  assertLabelNames,
  labelFields,
  problemTypeOf,
  readsImages,
  type ProblemType,
  type Task,
} from '@peftjs/core/model';
import type { SourceFiles } from '../checkpoint.js';
import { field, fileError } from '../json.js';
import type { ConfigFile, ModelType } from '../transformers/config.js';

/** The config.json and model type of a folder of transformers. */
export type Transformers = NonNullable<SourceFiles['transformers']>;

/** Returns the source's settings, updated for the current head and the dtype of the weights. */
export function mergedSettings({ config, type }: Transformers, head: Described): Record<string, unknown> {
  const { _name_or_path: _, torch_dtype: __, ...settings } = settingsOf(config);
  return {
    ...settings,
    architectures: [className(type, head.task, head.ofImages)],
    dtype: 'float32',
    ...headSettings(head),
    ...(isDecoder(type) && head.task === 'sequence-classification' && paddingSettings(settings)),
  };
}

/** Returns the padding ID: transformers needs it to find the last token of a text. */
function paddingSettings(settings: unknown): Record<string, unknown> {
  const end = field(settings, 'eos_token_id');
  const id: unknown = field(settings, 'pad_token_id') ?? (Array.isArray(end) ? end[0] : end);
  return { pad_token_id: id ?? null };
}

/** Returns the settings of a config.json. @throws CheckpointError when there is no `model_type`. */
export function settingsOf({ file, settings }: ConfigFile): Record<string, unknown> {
  if (field(settings, 'model_type') !== undefined) return { ...(settings as Record<string, unknown>) };
  throw fileError(file, `expected settings with a 'model_type'`);
}

/** The head that a config.json describes. */
export interface Described {
  /** The task of the head. */
  readonly task: Task;
  /** Whether the network reads images. */
  readonly ofImages: boolean;
  /** The number of outputs. */
  readonly outputs: number;
  /** The names of the classes, in the order of the outputs. */
  readonly labels?: readonly string[] | undefined;
  /** What the outputs mean. */
  readonly problemType: ProblemType;
}

/** Describes a model's head. */
export function described(
  { task = 'sequence-classification', sites, axes, labels: own, problemType }: Model,
  labels = task === 'causal-lm' ? undefined : own,
): Described {
  const ofImages = readsImages({ axes });
  const outputs = sites.findLast(({ role }) => role === 'head')?.outFeatures ?? 0;
  const meaning = problemTypeOf({ outputs, sites, ...(problemType && { problemType }) });
  return { task, ofImages, labels, outputs, problemType: meaning };
}

/**
 * Returns the settings of the head: the class names in both directions and the problem type.
 * @throws ConfigError when the number of names is not the number of outputs, and for names where a task has none.
 */
export function headSettings({ task, outputs, labels, problemType }: Described): Record<string, unknown> {
  if (task === 'causal-lm' || task === 'feature-extraction') {
    if (labels === undefined) return {};
    const what = task === 'causal-lm' ? 'a causal language model' : 'an embedding model';
    throw new ConfigError(`${what} has no labels; omit them`, 'labels');
  }
  const names = labels ?? Array.from({ length: outputs }, (_, index) => `LABEL_${index}`);
  assertLabelNames(names, outputs);
  return {
    ...labelFields(names),
    num_labels: outputs,
    ...(task === 'sequence-classification' && { problem_type: problemType }),
  };
}

/** Returns the class in transformers with a head for the task; undefined if there is none. */
export function className({ savedBy }: Pick<ModelType, 'savedBy'>, task: Task, ofImages = false): string | undefined {
  const classes = savedBy.match(/\w+/g) ?? [];
  const stem = (classes[0] ?? '').replace(/Model$/, '');
  if (task === 'sequence-classification') return `${stem}For${ofImages ? 'Image' : 'Sequence'}Classification`;
  if (task === 'token-classification') return `${stem}ForTokenClassification`;
  if (task === 'feature-extraction') return `${stem}Model`;
  return classes.find((name) => /(LMHeadModel|ForCausalLM)$/.test(name));
}

/** Whether the network is a language model. If so, it may have no padding token. */
export function isDecoder(type: ModelType): boolean {
  return className(type, 'causal-lm') !== undefined;
}
