import type { Model, ProblemType } from './contracts/model.js';
import { describe } from './config.js';
import { ConfigError, firstNames } from './errors.js';

/** Returns whether a module belongs to the model's head, which every method trains. */
export function isInHead({ head }: Pick<Model, 'head'>, path: string): boolean {
  return head.some((name) => path === name || path.startsWith(`${name}.`));
}

/** Returns whether a module of the head came with trained weights. */
export function isPretrained({ pretrainedHead = false }: Pick<Model, 'pretrainedHead'>, path: string): boolean {
  return typeof pretrainedHead === 'boolean' ? pretrainedHead : pretrainedHead.includes(path);
}

/** Returns the number of a model's outputs; undefined where neither the model nor its modules define it. */
export function outputsOf({ outputs, sites }: Pick<Model, 'outputs' | 'sites'>): number | undefined {
  return outputs ?? sites.findLast(({ role }) => role === 'head')?.outFeatures;
}

/** The meaning of a head's outputs. */
export interface OutputMeaning extends Pick<Model, 'labels' | 'problemType' | 'isChat'> {
  /**
   * What the logits of a classifier are divided by before the softmax, so that its scores are probabilities: see
   * `fitTemperature`. Default 1.
   */
  readonly temperature?: number;
}

/** Picks the fields that give the outputs' meaning, where they are known. */
export function outputMeaning({
  labels,
  problemType,
  temperature,
  isChat,
}: {
  readonly [K in keyof OutputMeaning]: OutputMeaning[K] | undefined;
}): OutputMeaning {
  return {
    ...(labels && { labels }),
    ...(problemType && { problemType }),
    ...(temperature && { temperature }),
    ...(isChat && { isChat }),
  };
}

/** Returns whether a model gives each row one of several classes, or would with this problem type. */
export function hasOneClass(
  model: Pick<Model, 'task' | 'problemType' | 'outputs' | 'sites'>,
  problemType = problemTypeOf(model),
): boolean {
  const { task = 'sequence-classification' } = model;
  return task === 'sequence-classification' && problemType === 'single_label_classification';
}

/**
 * Returns the problem type of a text classifier: its own; by default regression for one output, otherwise single-label.
 */
export function problemTypeOf(model: Pick<Model, 'problemType' | 'outputs' | 'sites'>): ProblemType {
  return model.problemType ?? (outputsOf(model) === 1 ? 'regression' : 'single_label_classification');
}

/** Transformers' problem types. */
export const PROBLEM_TYPES = [
  'single_label_classification',
  'multi_label_classification',
  'regression',
] as const satisfies readonly ProblemType[];

/** Returns the value if it is one of transformers' problem types, otherwise undefined. */
export function problemTypeIn(value: unknown): ProblemType | undefined {
  return PROBLEM_TYPES.find((type) => type === value);
}

/**
 * Checks class names: one per output, all different, none empty.
 * @throws ConfigError with the expected number.
 */
export function assertLabelNames(labels: readonly string[], outputs: number): void {
  const areNames = Array.isArray(labels) && labels.every((label) => typeof label === 'string' && label !== '');
  if (areNames && labels.length === outputs && new Set(labels).size === outputs) return;
  const came = areNames ? firstNames(labels) : describe(labels);
  throw new ConfigError(`expected ${outputs} different labels, got ${came}`, 'labels');
}

/** Returns class names in transformers' format: by number, and numbers by name. */
export function labelFields(labels: readonly string[]): {
  readonly id2label: Readonly<Record<string, string>>;
  readonly label2id: Readonly<Record<string, number>>;
} {
  return {
    id2label: Object.fromEntries(labels.map((label, index) => [String(index), label])),
    label2id: Object.fromEntries(labels.map((label, index) => [label, index])),
  };
}

/** Returns the names in an `id2label` by number; undefined unless they are different names for 0, 1, .. */
export function labelsIn(id2label: unknown): string[] | undefined {
  if (typeof id2label !== 'object' || id2label === null) return undefined;
  const names = new Map<string, unknown>(Object.entries(id2label));
  const labels = Array.from({ length: names.size }, (_, index) => names.get(String(index)));
  const areNames = labels.length > 0 && labels.every((label) => typeof label === 'string' && label !== '');
  return areNames && new Set(labels).size === labels.length ? (labels as string[]) : undefined;
}
