import { dropoutRate, integerFrom, targetEntries, type MethodOptions } from '@peftjs/core/method';
import * as v from 'valibot';

/** The schema entries of the options. */
export const veraOptions = {
  ...targetEntries,
  /** The rank of the shared matrices, the same in all modules. A rank costs one parameter per module. Default 256. */
  r: v.optional(integerFrom(1), 256),
  /** The seed of the shared matrices. PEFT draws the same values from it. Default 0. */
  projectionPrngKey: v.optional(integerFrom(0), 0),
  /** Whether files contain the shared matrices, or only their seed. Default null: they do, unless a budget is given. */
  saveProjection: v.optional(v.nullable(v.boolean()), null),
  /** The dropout probability of each module's input, applied before A during training. Default 0. */
  veraDropout: v.optional(dropoutRate, 0),
  /** The initial value of all entries of d. Default 0.1. */
  dInitial: v.optional(v.pipe(v.number(), v.finite()), 0.1),
};

/** The options of VeRA, with PEFT's names. */
export type VeraConfig = MethodOptions<typeof veraOptions>;

/** Returns whether files contain the shared matrices. */
export function savesProjection({ saveProjection }: Pick<VeraConfig, 'saveProjection'>): boolean {
  return saveProjection ?? true;
}
