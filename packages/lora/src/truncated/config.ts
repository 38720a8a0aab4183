import { parseOptions, positive, type TargetConfig } from '@peftjs/core';
import * as v from 'valibot';
import { plainEntries, type LoraConfig } from '../config.js';

/** Options of truncated LoRA: plain LoRA's, `r` being r_max, the rank that every module starts with, and a budget. */
export interface TruncatedLoraConfig
  extends TargetConfig, Pick<LoraConfig, 'r' | 'loraAlpha' | 'rankPattern' | 'alphaPattern' | 'loraDropout'> {
  /** Parameters to store from the final phase on, within 1 %; null for a LoRA that stays as it is. Default null. */
  readonly budget: number | null;
}

/** Fills in the defaults. @throws ConfigError naming the field. */
export function parseTruncatedConfig(input: unknown): TruncatedLoraConfig {
  return parseOptions('truncated-lora', { ...plainEntries, budget: v.nullish(positive, null) }, input);
}
