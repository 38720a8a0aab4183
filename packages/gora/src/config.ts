import {
  ConfigError,
  integerFrom,
  parseOptions,
  positive,
  targetEntries,
  type TargetConfig,
} from '@peftjs/core/method';
import * as v from 'valibot';

/** Options of GoRA. */
export interface GoraConfig extends TargetConfig {
  /** The rank that every module would have: together they store as much as the ranks that are chosen. Default 8. */
  readonly r: number;
  /** The change of a module is scaled by `loraAlpha / sqrt(r)` of the rank that it has. Default 16. */
  readonly loraAlpha: number;
  /** Alphas of single modules, by path or by a regular expression for the end of it. */
  readonly alphaPattern: Readonly<Record<string, number>>;
  /** gamma: the size of the first step down the gradient. Default 5e-2. */
  readonly gamma: number;
  /** The least rank of a module. Default null: half of `r`, rounded up. */
  readonly minR: number | null;
  /** The greatest rank of a module. Default null: four times `r`. */
  readonly maxR: number | null;
  /** Learning rate of B, in learning rates of A (LoRA+). Default 1; every script of the release sets 16. */
  readonly loraplusLrRatio: number;
  /** Parameters to store, within 2 %. Default null: as many as rank `r` everywhere. */
  readonly budget: number | null;
  /**
   * `'gora'`: ranks and B from the gradients on some batches, which `attach` must be given. `'stored'`: what a file is read as, whose
   * ranks are those of `r` and `rankPattern`. Default 'gora'.
   */
  readonly initLoraWeights: 'gora' | 'stored';
  /** Ranks of single modules; only with `initLoraWeights: 'stored'`. */
  readonly rankPattern: Readonly<Record<string, number>>;
}

const entries = {
  ...targetEntries,
  r: v.optional(integerFrom(1), 8),
  loraAlpha: v.optional(positive, 16),
  alphaPattern: v.optional(v.record(v.string(), positive), {}),
  gamma: v.optional(positive, 5e-2),
  minR: v.nullish(integerFrom(1), null),
  maxR: v.nullish(integerFrom(1), null),
  loraplusLrRatio: v.optional(positive, 1),
  budget: v.nullish(positive, null),
  initLoraWeights: v.optional(v.picklist(['gora', 'stored']), 'gora'),
  rankPattern: v.optional(v.record(v.string(), integerFrom(1)), {}),
};

/** Fills in GoRA's defaults. @throws ConfigError naming the field. */
export function parseGoraConfig(input: unknown): GoraConfig {
  const config = parseOptions('gora', entries, input);
  const { initLoraWeights, rankPattern, minR, maxR } = config;
  if (initLoraWeights === 'gora' && Object.keys(rankPattern).length > 0) {
    throw new ConfigError('gora: ranks are chosen from the gradients; leave rankPattern out', 'rankPattern');
  }
  if (minR !== null && maxR !== null && minR > maxR) {
    throw new ConfigError(`gora: minR is ${minR} and maxR ${maxR}; set maxR to at least minR`, 'maxR');
  }
  return config;
}
