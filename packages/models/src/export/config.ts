import { ConfigError, type Model, type Task } from '@peftjs/core';
import { field } from '../json.js';
import type { ModelType } from '../transformers/model-type.js';

/** The model that a config.json is written for. */
export interface Described {
  readonly task: Task;
  /** Outputs of its head. */
  readonly outputs: number;
  readonly labels?: readonly string[] | undefined;
}

/** The task of a model and the outputs of its head, and what their names are. */
export function described({ task = 'sequence-classification', sites }: Model, labels?: readonly string[]): Described {
  return { task, labels, outputs: sites.findLast(({ role }) => role === 'head')?.outFeatures ?? 0 };
}

/**
 * What config.json says of the head: the names of the classes both ways, and what is told apart.
 * @throws ConfigError when there are not as many names as outputs.
 */
export function headSettings(settings: unknown, { task, outputs, labels }: Described): Record<string, unknown> {
  if (task === 'causal-lm') {
    if (labels === undefined) return {};
    throw new ConfigError('a causal language model has no labels, it has words; leave them out', 'labels');
  }
  const names =
    labels ?? ownLabels(settings, outputs) ?? Array.from({ length: outputs }, (_, index) => `LABEL_${index}`);
  if (names.length !== outputs || new Set(names).size !== outputs) {
    throw new ConfigError(`expected ${outputs} different labels, got ${names.join(', ') || 'none'}`, 'labels');
  }
  return {
    id2label: Object.fromEntries(names.map((name, index) => [String(index), name])),
    label2id: Object.fromEntries(names.map((name, index) => [name, index])),
    num_labels: outputs,
    ...(task === 'sequence-classification' && {
      problem_type: outputs === 1 ? 'regression' : 'single_label_classification',
    }),
  };
}

/** The labels that a config.json has, where they are as many. */
function ownLabels(settings: unknown, outputs: number): string[] | undefined {
  const known = field(settings, 'id2label');
  const names = Array.from({ length: outputs }, (_, index) => field(known, String(index)));
  const isAll = typeof known === 'object' && known !== null && Object.keys(known).length === outputs;
  return isAll && names.every((name) => typeof name === 'string') ? names : undefined;
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
