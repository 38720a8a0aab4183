import * as v from 'valibot';
import { integerFrom, nonNegative } from '@peftjs/core/method';
import { closed } from '@peftjs/core/model';
import { sparsifyingLevels } from '@peftjs/core/runtime';
import { MAX_STAGES } from '../results/schema.js';

const listed = v.pipe(v.array(nonNegative), v.minLength(1), v.maxLength(MAX_STAGES));

/** Levels by their spacing, computed by `sparsifyingLevels`. */
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

/** The sparsifying schedule of an arm (`sparsify` of core). */
export const stagesSchema = closed({
  /** The level of the method's sparsity in each stage: a list, or `{ kind, from, to, stages }`. */
  levels,
  /** Epochs of the first stage; null for the protocol's. Default null. */
  epochs: v.nullish(integerFrom(1), null),
  /** Epochs of every later stage. Default 15, as in the SoRA paper's code. */
  stageEpochs: v.optional(integerFrom(1), 15),
  /** Training rows that memorization is measured on, drawn with the data's seed. Default 1000, as in that code. */
  memorizationRows: v.optional(integerFrom(1), 1000),
});

/** The stages that an arm is trained in. */
export type Stages = v.InferOutput<typeof stagesSchema>;

/** The epochs before a stage, for a protocol with `epochs`. For the index after the last stage: all epochs. */
export function epochsBefore(stage: number, { epochs: own, stageEpochs }: Stages, epochs: number): number {
  return stage === 0 ? 0 : (own ?? epochs) + (stage - 1) * stageEpochs;
}
