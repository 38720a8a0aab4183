import type { Model } from '../contracts/model.js';

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
