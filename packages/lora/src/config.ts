import { integerFrom, parseOptions, positive, targetEntries, type TargetConfig } from '@peftjs/core';
import * as v from 'valibot';

/** Options of LoRA, in PEFT's names and with PEFT's defaults. */
export interface LoraConfig extends TargetConfig {
  /** Rank of the change of a weight. Default 8. */
  readonly r: number;
  /** The change is scaled by `loraAlpha / r`. Default 8. */
  readonly loraAlpha: number;
  /** Scale by `loraAlpha / sqrt(r)` instead (rsLoRA), which keeps the output's size as `r` grows. Default false. */
  readonly useRslora: boolean;
  /** Ranks of single modules, by path or by a regular expression for the end of it. */
  readonly rankPattern: Readonly<Record<string, number>>;
  /** Alphas of single modules, likewise. */
  readonly alphaPattern: Readonly<Record<string, number>>;
  /**
   * `true`: A uniform, B zero, so that training starts from the frozen model; `'gaussian'`: A normal with deviation 1 / r;
   * `false`: B random too, which changes the outputs from the start. Default true.
   */
  readonly initLoraWeights: boolean | 'gaussian';
}

const entries = {
  ...targetEntries,
  r: v.optional(integerFrom(1), 8),
  loraAlpha: v.optional(positive, 8),
  useRslora: v.optional(v.boolean(), false),
  rankPattern: v.optional(v.record(v.string(), integerFrom(1)), {}),
  alphaPattern: v.optional(v.record(v.string(), positive), {}),
  initLoraWeights: v.optional(v.union([v.boolean(), v.literal('gaussian')]), true),
};

/** Fills in LoRA's defaults. @throws ConfigError naming the field. */
export function parseLoraConfig(input: unknown): LoraConfig {
  return parseOptions('lora', entries, input);
}
