import { dropoutRate, integerFrom, parseOptions, targetEntries, type TargetConfig } from '@peftjs/core/method';
import * as v from 'valibot';

/** Options of VeRA, in PEFT's names. */
export interface VeraConfig extends TargetConfig {
  /** Rank of the shared matrices, the same for every module. It costs one parameter a module. Default 256. */
  readonly r: number;
  /** Seed of the shared matrices: PEFT draws the same numbers from it. Default 0. */
  readonly projectionPrngKey: number;
  /** Whether files hold the shared matrices, or only the seed that they are drawn from. Default true. */
  readonly saveProjection: boolean;
  /** Share of a module's input that A does not see while training. Default 0. */
  readonly veraDropout: number;
  /** What every entry of d starts from. Default 0.1. */
  readonly dInitial: number;
}

const entries = {
  ...targetEntries,
  r: v.optional(integerFrom(1), 256),
  projectionPrngKey: v.optional(integerFrom(0), 0),
  saveProjection: v.optional(v.boolean(), true),
  veraDropout: v.optional(dropoutRate, 0),
  dInitial: v.optional(v.pipe(v.number(), v.finite()), 0.1),
};

/** Fills in VeRA's defaults. @throws ConfigError naming the field. */
export function parseVeraConfig(input: unknown): VeraConfig {
  return parseOptions('vera', entries, input);
}
