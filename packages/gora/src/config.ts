import {
  ConfigError,
  integerFrom,
  parseOptions,
  positive,
  targetEntries,
  type TargetConfig,
} from '@peftjs/core/method';
import * as v from 'valibot';

/** The options of GoRA. */
export interface GoraConfig extends TargetConfig {
  /** The reference rank: the chosen ranks store as many parameters as this rank in every module. Default 8. */
  readonly r: number;
  /** The alpha parameter: a module's change is scaled by `loraAlpha / sqrt(r)`, with its own r. Default 16. */
  readonly loraAlpha: number;
  /** Alphas that differ from `loraAlpha`, by module path or a regular expression for its end. Default {}. */
  readonly alphaPattern: Readonly<Record<string, number>>;
  /** gamma, the size of the initial step down the gradient. Default 5e-2. */
  readonly gamma: number;
  /** The lowest rank of a module. Default null: half of `r`, rounded up. */
  readonly minR: number | null;
  /** The highest rank of a module. Default null: four times `r`. */
  readonly maxR: number | null;
  /** The ratio of the learning rate of B to that of A (LoRA+). Default 1; all scripts of the release set 16. */
  readonly loraplusLrRatio: number;
  /** The number of parameters to store, met within 2 %. Default null: those of rank `r` everywhere. */
  readonly budget: number | null;
  /**
   * `'gora'`: ranks and B come from gradients over some batches, which `attach` needs as a calibration. `'stored'`: the
   * form in which a file is read; ranks come from `r` and `rankPattern`. Default 'gora'.
   */
  readonly initLoraWeights: 'gora' | 'stored';
  /** Ranks of modules whose rank is not `r`, by module path; only with `initLoraWeights: 'stored'`. Default {}. */
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

/** Validates the options and fills in defaults. @throws ConfigError that names the invalid field. */
export function parseGoraConfig(input: unknown): GoraConfig {
  const config = parseOptions('gora', entries, input);
  const { initLoraWeights, rankPattern, minR, maxR } = config;
  if (initLoraWeights === 'gora' && Object.keys(rankPattern).length > 0) {
    throw new ConfigError('gora: ranks are chosen from the gradients; unset rankPattern', 'rankPattern');
  }
  if (minR !== null && maxR !== null && minR > maxR) {
    throw new ConfigError(`gora: minR is ${minR} and maxR ${maxR}; set maxR to at least minR`, 'maxR');
  }
  return config;
}
