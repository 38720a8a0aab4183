import {
  ConfigError,
  dropoutRate,
  integerFrom,
  nonNegative,
  parseOptions,
  positive,
  targetEntries,
  type TargetConfig,
} from '@peftjs/core/method';
import * as v from 'valibot';

/** Options of Dynamic DoRA. Defaults are those of the released code's example, but for the dropout, which is 0.1 there. */
export interface DynamicDoraConfig extends TargetConfig {
  /** r0: the rank that every module starts with. Default 12. */
  readonly r: number;
  /** rT: the rank that modules have in the end, on average; need not be whole. Default null: two thirds of the starting ranks. */
  readonly targetR: number | null;
  /** Parameters to store in the end, within 2 %, in place of `targetR`. Default null. */
  readonly budget: number | null;
  /** The change is scaled by `loraAlpha / r`, whatever ranks remain. Default 8. */
  readonly loraAlpha: number;
  /** Starting ranks of single modules, by path or by a regular expression for the end of it. */
  readonly rankPattern: Readonly<Record<string, number>>;
  /** Alphas of single modules, likewise. */
  readonly alphaPattern: Readonly<Record<string, number>>;
  /** Share of a module's input that A does not see while training. Default 0. */
  readonly loraDropout: number;
  /** eta: weight of the term that keeps the entries of a component alike, until the last pruning. Default 0.1. */
  readonly demWeight: number;
  /** beta: smoothing of the scores. Default 0.9. */
  readonly beta: number;
  /** Share of the run after which pruning begins. Default 0.15. */
  readonly startRatio: number;
  /** Share of the run after which it ends for good, or sooner where the final steps begin sooner. Default 0.5. */
  readonly endRatio: number;
  /** Share of the run's steps from one pruning to the next. Default 0.0125: 100 steps of the released example's 8,025. */
  readonly rankUpdateRatio: number;
}

/** r0 for each rank that is kept. */
export const STARTING_PER_TARGET = 1.5;

const unitInterval = v.pipe(v.number(), v.minValue(0), v.maxValue(1));

const entries = {
  ...targetEntries,
  r: v.optional(integerFrom(1), 12),
  targetR: v.nullish(positive, null),
  budget: v.nullish(positive, null),
  loraAlpha: v.optional(positive, 8),
  rankPattern: v.optional(v.record(v.string(), integerFrom(1)), {}),
  alphaPattern: v.optional(v.record(v.string(), positive), {}),
  loraDropout: v.optional(dropoutRate, 0),
  demWeight: v.optional(nonNegative, 0.1),
  beta: v.optional(v.pipe(v.number(), v.minValue(0), v.ltValue(1)), 0.9),
  startRatio: v.optional(unitInterval, 0.15),
  endRatio: v.optional(unitInterval, 0.5),
  rankUpdateRatio: v.optional(v.pipe(v.number(), v.gtValue(0), v.maxValue(1)), 0.0125),
};

/** Fills in the defaults of Dynamic DoRA. @throws ConfigError naming the field. */
export function parseDynamicDoraConfig(input: unknown): DynamicDoraConfig {
  const config = parseOptions('dynamic-dora', entries, input);
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
      `dynamic-dora: targetR ${targetR} and budget ${budget} both say what is kept; give one of them`,
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
