import type { Model, ProblemType } from './contracts/model.js';
import { describe } from './config.js';
import { ConfigError } from './errors.js';

/** Whether a module is of a model's head: trained with every method. */
export function isOfHead({ head }: Pick<Model, 'head'>, path: string): boolean {
  return head.some((name) => path === name || path.startsWith(`${name}.`));
}

/** Whether a module of the head came with trained weights. */
export function isPretrained({ pretrainedHead = false }: Pick<Model, 'pretrainedHead'>, path: string): boolean {
  return typeof pretrainedHead === 'boolean' ? pretrainedHead : pretrainedHead.includes(path);
}

/** How many outputs a model has; undefined where neither it nor its modules say so. */
export function outputsOf({ outputs, sites }: Pick<Model, 'outputs' | 'sites'>): number | undefined {
  return outputs ?? sites.findLast(({ role }) => role === 'head')?.outFeatures;
}

/** What the outputs of a head mean. */
export type OutputMeaning = Pick<Model, 'labels' | 'problemType'>;

/** The meaning of something's outputs alone, as far as it is known. */
export function meaningOf({
  labels,
  problemType,
}: {
  readonly [K in keyof OutputMeaning]: OutputMeaning[K] | undefined;
}): OutputMeaning {
  return { ...(labels && { labels }), ...(problemType && { problemType }) };
}

/** What the outputs of a classifier of texts mean: what it says, else regression for one output and one label of several. */
export function problemTypeOf(model: Pick<Model, 'problemType' | 'outputs' | 'sites'>): ProblemType {
  return model.problemType ?? (outputsOf(model) === 1 ? 'regression' : 'single_label_classification');
}

const PROBLEM_TYPES: readonly unknown[] = [
  'single_label_classification',
  'multi_label_classification',
  'regression',
] satisfies ProblemType[];

/** The value if it is one of transformers' problem types, else undefined. */
export function problemTypeIn(value: unknown): ProblemType | undefined {
  return PROBLEM_TYPES.includes(value) ? (value as ProblemType) : undefined;
}

/**
 * Checks names of classes: one for each output, all different, none empty.
 * @throws ConfigError saying how many are expected.
 */
export function assertLabelNames(labels: readonly string[], outputs: number): void {
  const areNames = Array.isArray(labels) && labels.every((label) => typeof label === 'string' && label !== '');
  if (areNames && labels.length === outputs && new Set(labels).size === outputs) return;
  const came = areNames ? labels.slice(0, 20).join(', ') || 'none' : describe(labels);
  throw new ConfigError(`expected ${outputs} different labels, got ${came}`, 'labels');
}

/** Names of classes as transformers writes them: by number, and the numbers by name. */
export function labelFields(labels: readonly string[]): {
  readonly id2label: Readonly<Record<string, string>>;
  readonly label2id: Readonly<Record<string, number>>;
} {
  return {
    id2label: Object.fromEntries(labels.map((label, index) => [String(index), label])),
    label2id: Object.fromEntries(labels.map((label, index) => [label, index])),
  };
}

/** The names in an `id2label`, by their numbers; undefined for anything but different names for 0, 1, .. */
export function labelsIn(id2label: unknown): string[] | undefined {
  if (typeof id2label !== 'object' || id2label === null) return undefined;
  const names = new Map<string, unknown>(Object.entries(id2label));
  const labels = Array.from({ length: names.size }, (_, index) => names.get(String(index)));
  const areNames = labels.length > 0 && labels.every((label) => typeof label === 'string' && label !== '');
  return areNames && new Set(labels).size === labels.length ? (labels as string[]) : undefined;
}
