import { ConfigError, integerFrom, positive } from '@peftjs/core/method';
import type { RankOptions } from '@peftjs/core/ranks';
import * as v from 'valibot';

/** The options that only GoRA has. */
export const goraOptions = {
  /** gamma, the size of the initial step down the gradient. Default 5e-2. */
  gamma: v.optional(positive, 5e-2),
  /** The lowest rank of a module. Default null: half of `r`, rounded up. */
  minR: v.nullish(integerFrom(1), null),
  /** The highest rank of a module. Default null: four times `r`. */
  maxR: v.nullish(integerFrom(1), null),
  /** The ratio of the learning rate of B to that of A (LoRA+). Default 1; all scripts of the release set 16. */
  loraplusLrRatio: v.optional(positive, 1),
  /** The number of parameters to store, met within 2 %. Default null: those of rank `r` everywhere. */
  budget: v.nullish(positive, null),
  /**
   * `'gora'`: ranks and B come from gradients over some batches, which `attach` needs as a calibration. `'stored'`: the
   * form in which a file is read; ranks come from `r` and `rankPattern`. Default 'gora'.
   */
  initLoraWeights: v.optional(v.picklist(['gora', 'stored']), 'gora'),
};

/**
 * The options of GoRA. `r`, 8 by default, is the reference rank: the chosen ranks store as many parameters as this rank
 * in every module. A `budget` replaces it, here and in `minR` and `maxR`, by the average rank that it pays for.
 * `loraAlpha` is 16 by default: a module's change is scaled by `loraAlpha / sqrt(r)`, with its own r. `rankPattern` is
 * only for `initLoraWeights: 'stored'`.
 */
export type GoraConfig = RankOptions<typeof goraOptions>;

/** Checks that options do not exclude each other. @throws ConfigError that names the invalid field. */
export function checked(config: GoraConfig): GoraConfig {
  const { initLoraWeights, rankPattern, minR, maxR } = config;
  if (initLoraWeights === 'gora' && Object.keys(rankPattern).length > 0) {
    throw new ConfigError('gora: ranks are chosen from the gradients; unset rankPattern', 'rankPattern');
  }
  if (minR !== null && maxR !== null && minR > maxR) {
    throw new ConfigError(`gora: minR is ${minR} and maxR ${maxR}; set maxR to at least minR`, 'maxR');
  }
  return config;
}
