import { assertLabelNames, ConfigError, labelFields, type Model, type Task } from '@peftjs/core';
import type { ModelType } from '../transformers/model-type.js';

/** The model that a config.json is written for. */
export interface Described {
  readonly task: Task;
  /** Outputs of its head. */
  readonly outputs: number;
  readonly labels?: readonly string[] | undefined;
}

/** The task of a model and the outputs of its head, and what their names are. */
export function described(
  { task = 'sequence-classification', sites, labels: own }: Model,
  labels = task === 'causal-lm' ? undefined : own,
): Described {
  return { task, labels, outputs: sites.findLast(({ role }) => role === 'head')?.outFeatures ?? 0 };
}

/**
 * What config.json says of the head: the names of the classes both ways, and what is told apart.
 * @throws ConfigError when there are not as many names as outputs.
 */
export function headSettings({ task, outputs, labels }: Described): Record<string, unknown> {
  if (task === 'causal-lm') {
    if (labels === undefined) return {};
    throw new ConfigError('a causal language model has no labels, it has words; leave them out', 'labels');
  }
  const names = labels ?? Array.from({ length: outputs }, (_, index) => `LABEL_${index}`);
  assertLabelNames(names, outputs);
  return {
    ...labelFields(names),
    num_labels: outputs,
    ...(task === 'sequence-classification' && {
      problem_type: outputs === 1 ? 'regression' : 'single_label_classification',
    }),
  };
}

/** The class of transformers that has a head for a task; undefined where the network has none for it. */
export function className({ savedBy }: ModelType, task: Task): string | undefined {
  const classes = savedBy.match(/\w+/g) ?? [];
  const stem = (classes[0] ?? '').replace(/Model$/, '');
  if (task === 'sequence-classification') return `${stem}ForSequenceClassification`;
  if (task === 'token-classification') return `${stem}ForTokenClassification`;
  return classes.find((name) => /(LMHeadModel|ForCausalLM)$/.test(name));
}

/** Whether a network predicts the next word, so that its texts may lack a token for padding. */
export function isDecoder(type: ModelType): boolean {
  return className(type, 'causal-lm') !== undefined;
}
