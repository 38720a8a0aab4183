import type { Model } from './contracts/model.js';
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
