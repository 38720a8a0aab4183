import * as v from 'valibot';
import { integerFrom, nonNegative, sparsifyingLevels } from '@peftjs/core';
import { MAX_STAGES } from '../results/schema.js';
import { closed } from './closed.js';

const listed = v.pipe(v.array(nonNegative), v.minLength(1), v.maxLength(MAX_STAGES));

/** Levels by their spacing, as `sparsifyingLevels` makes them. */
const spaced = v.pipe(
  closed({
    kind: v.picklist(['linear', 'log_linear', 'exp_linear']),
    from: nonNegative,
    to: nonNegative,
    stages: v.pipe(integerFrom(1), v.maxValue(MAX_STAGES)),
  }),
  v.rawTransform(({ dataset: { value }, addIssue, NEVER }) => {
    try {
      return sparsifyingLevels(value.kind, value.from, value.to, value.stages);
    } catch (error) {
      addIssue({ message: (error as Error).message });
      return NEVER;
    }
  }),
);

const levels = v.lazy((input): v.GenericSchema<unknown, number[]> => (Array.isArray(input) ? listed : spaced));

/** The sparsifying schedule that an arm is trained by (`sparsify` of core). */
export const stagesSchema = closed({
  /** A level of the method's sparsity for each stage: a list, or `{ kind, from, to, stages }`. */
  levels,
  /** Epochs of the first stage; null for those of the protocol. */
  epochs: v.nullish(integerFrom(1), null),
  /** Epochs of every other stage; 15 in the SoRA paper's code. */
  stageEpochs: v.optional(integerFrom(1), 15),
  /** Training rows that memorization is measured on, drawn by the seed of the data; 1000 in that code. */
  memorizationRows: v.optional(integerFrom(1), 1000),
});

/** How an arm is trained in stages. */
export type Stages = v.InferOutput<typeof stagesSchema>;

/** Epochs that are trained before a stage, of a trial whose protocol has `epochs`; before the one after the last: all of them. */
export function epochsBefore(stage: number, { epochs: own, stageEpochs }: Stages, epochs: number): number {
  return stage === 0 ? 0 : (own ?? epochs) + (stage - 1) * stageEpochs;
}
