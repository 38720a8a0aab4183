import { ConfigError, keptShare, nonNegative, positive, positiveShare } from '@peftjs/core/method';
import { budgetEntries, dropoutEntries, type RankOptions } from '@peftjs/core/ranks';
import * as v from 'valibot';

const unitInterval = v.pipe(v.number(), v.minValue(0), v.maxValue(1));

/** The options that only Dynamic DoRA has. */
export const dynamicDoraOptions = {
  /** rT, the average rank of modules at the end; may be fractional. Default null: two thirds of the initial ranks. */
  targetR: v.nullish(positive, null),
  ...budgetEntries,
  ...dropoutEntries,
  /** eta, the weight of the term that makes the entries of a component similar, until the last pruning. Default 0.1. */
  demWeight: v.optional(nonNegative, 0.1),
  /** beta, the smoothing factor of the scores. Default 0.9. */
  beta: v.optional(keptShare, 0.9),
  /** When pruning begins, as a share of the run's steps. Default 0.15. */
  startRatio: v.optional(unitInterval, 0.15),
  /** When pruning ends, as a share of the run's steps; it never reaches into the final phase. Default 0.5. */
  endRatio: v.optional(unitInterval, 0.5),
  /** The interval between two prunings, as a share of the run. Default 0.0125: 100 of 8,025 steps in the example. */
  rankUpdateRatio: v.optional(positiveShare, 0.0125),
};

/**
 * The options of Dynamic DoRA. Defaults are those of the released code's example, except for its dropout of 0.1: `r`,
 * the paper's r0, is 12, `loraAlpha` 8. A `budget` replaces `targetR`.
 */
export type DynamicDoraConfig = RankOptions<typeof dynamicDoraOptions>;

/** Checks that options do not exclude each other. @throws ConfigError that names the invalid field. */
export function checked(config: DynamicDoraConfig): DynamicDoraConfig {
  const { targetR, budget, startRatio, endRatio } = config;
  const largest = Math.max(config.r, ...Object.values(config.rankPattern));
  if (targetR !== null && targetR > largest) {
    throw new ConfigError(
      `dynamic-dora: targetR is ${targetR}; ranks only fall, from at most ${largest}: raise r or lower targetR`,
      'targetR',
    );
  }
  if (targetR !== null && budget !== null) {
    throw new ConfigError(
      `dynamic-dora: targetR ${targetR} and budget ${budget} both set what is kept; set only one`,
      'budget',
    );
  }
  if (startRatio >= endRatio) {
    throw new ConfigError(
      `dynamic-dora: pruning begins at startRatio ${startRatio} and ends at endRatio ${endRatio}; raise endRatio`,
      'endRatio',
    );
  }
  return config;
}
