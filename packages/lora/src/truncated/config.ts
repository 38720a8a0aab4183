import { dropoutRate, integerFrom, parseOptions, positive, targetEntries, type TargetConfig } from '@peftjs/core';
import * as v from 'valibot';

/** Options of truncated LoRA: plain LoRA's, and a budget. */
export interface TruncatedLoraConfig extends TargetConfig {
  /** r_max: the rank that every module starts with. Default 8. */
  readonly r: number;
  /** The change is scaled by `loraAlpha / r`, whatever ranks remain. Default 8. */
  readonly loraAlpha: number;
  /** Starting ranks of single modules, by path or by a regular expression for the end of it. */
  readonly rankPattern: Readonly<Record<string, number>>;
  /** Alphas of single modules, likewise. */
  readonly alphaPattern: Readonly<Record<string, number>>;
  /** Rate of dropout on what the change reads, in [0, 1). Default 0. */
  readonly loraDropout: number;
  /** Parameters to store from the final phase on, within 1 %; null for a LoRA that stays as it is. Default null. */
  readonly budget: number | null;
}

const entries = {
  ...targetEntries,
  r: v.optional(integerFrom(1), 8),
  loraAlpha: v.optional(positive, 8),
  rankPattern: v.optional(v.record(v.string(), integerFrom(1)), {}),
  alphaPattern: v.optional(v.record(v.string(), positive), {}),
  loraDropout: v.optional(dropoutRate, 0),
  budget: v.nullish(positive, null),
};

/** Fills in the defaults. @throws ConfigError naming the field. */
export function parseTruncatedConfig(input: unknown): TruncatedLoraConfig {
  return parseOptions('truncated-lora', entries, input);
}
