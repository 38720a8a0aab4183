/** The config.json of an exported model: that of its source, with the head that the model has now. */
import type { Model } from '@peftjs/core';
import {
  assertLabelNames,
  CheckpointError,
  ConfigError,
  labelFields,
  problemTypeOf,
  type ProblemType,
  type Task,
} from '@peftjs/core/method';
import type { SourceFiles } from '../checkpoint.js';
import { field } from '../json.js';
import type { ConfigFile, ModelType } from '../transformers/config.js';

export type Transformers = NonNullable<SourceFiles['transformers']>;

/** The settings of the source, with the head that the model has now and the type of its weights. */
export function mergedSettings({ config, type }: Transformers, head: Described): Record<string, unknown> {
  const { _name_or_path: _, torch_dtype: __, ...settings } = settingsOf(config);
  return {
    ...settings,
    architectures: [className(type, head.task)],
    dtype: 'float32',
    ...headSettings(head),
    ...(isDecoder(type) && head.task === 'sequence-classification' && paddingSettings(settings)),
  };
}

/** The last token of a text is the one before padding: transformers must know which that is. */
function paddingSettings(settings: unknown): Record<string, unknown> {
  const end = field(settings, 'eos_token_id');
  const id: unknown = field(settings, 'pad_token_id') ?? (Array.isArray(end) ? end[0] : end);
  return { pad_token_id: id ?? null };
}

/** The settings of a config.json. @throws CheckpointError when it holds something else. */
export function settingsOf({ file, settings }: ConfigFile): Record<string, unknown> {
  if (field(settings, 'model_type') !== undefined) return { ...(settings as Record<string, unknown>) };
  throw new CheckpointError(`${file}: expected settings with a 'model_type'`, file);
}

/** The model that a config.json is written for. */
export interface Described {
  readonly task: Task;
  /** Outputs of its head. */
  readonly outputs: number;
  readonly labels?: readonly string[] | undefined;
  readonly problemType: ProblemType;
}

/** The task of a model and the outputs of its head, and what they mean. */
export function described(
  { task = 'sequence-classification', sites, labels: own, problemType }: Model,
  labels = task === 'causal-lm' ? undefined : own,
): Described {
  const outputs = sites.findLast(({ role }) => role === 'head')?.outFeatures ?? 0;
  return { task, labels, outputs, problemType: problemTypeOf({ outputs, sites, ...(problemType && { problemType }) }) };
}

/**
 * What config.json says of the head: the names of the classes both ways, and what is told apart.
 * @throws ConfigError when there are not as many names as outputs.
 */
export function headSettings({ task, outputs, labels, problemType }: Described): Record<string, unknown> {
  if (task === 'causal-lm' || task === 'feature-extraction') {
    if (labels === undefined) return {};
    const what = task === 'causal-lm' ? 'a causal language model has words' : 'a model for embeddings has numbers';
    throw new ConfigError(`${what} and no labels; leave them out`, 'labels');
  }
  const names = labels ?? Array.from({ length: outputs }, (_, index) => `LABEL_${index}`);
  assertLabelNames(names, outputs);
  return {
    ...labelFields(names),
    num_labels: outputs,
    ...(task === 'sequence-classification' && { problem_type: problemType }),
  };
}

/** The class of transformers that has a head for a task; undefined where the network has none for it. */
function className({ savedBy }: ModelType, task: Task): string | undefined {
  const classes = savedBy.match(/\w+/g) ?? [];
  const stem = (classes[0] ?? '').replace(/Model$/, '');
  if (task === 'sequence-classification') return `${stem}ForSequenceClassification`;
  if (task === 'token-classification') return `${stem}ForTokenClassification`;
  if (task === 'feature-extraction') return `${stem}Model`;
  return classes.find((name) => /(LMHeadModel|ForCausalLM)$/.test(name));
}

/** Whether a network predicts the next word, so that its texts may lack a token for padding. */
export function isDecoder(type: ModelType): boolean {
  return className(type, 'causal-lm') !== undefined;
}
