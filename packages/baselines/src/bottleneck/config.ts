import { integerFrom, parseOptions, positive, targetEntries, type TargetConfig } from '@peftjs/core';
import * as v from 'valibot';
import { withTargets } from '../placement.js';
import { nonLinearities, type NonLinearity } from './layer.js';

/** Options of the bottleneck adapters. */
export interface BottleneckConfig extends TargetConfig {
  /** Width m of the bottleneck. Default 16. */
  readonly bottleneck: number;
  /** Widths after single modules, by path or by a regular expression for the end of it. */
  readonly bottleneckPattern: Readonly<Record<string, number>>;
  /** Modules, by path or dotted suffix, after which the adapter has no bias u. Default none. */
  readonly withoutBias: readonly string[];
  /** The function in the bottleneck. Default 'gelu_new'. */
  readonly nonLinearity: NonLinearity;
  /** Standard deviation of the weights at the start. Default 0.01: the adapter is then near the identity. */
  readonly initStd: number;
}

const entries = {
  ...targetEntries,
  bottleneck: v.optional(integerFrom(1), 16),
  bottleneckPattern: v.optional(v.record(v.string(), integerFrom(1)), {}),
  withoutBias: v.optional(v.array(v.string()), []),
  nonLinearity: v.optional(v.picklist(Object.keys(nonLinearities) as NonLinearity[]), 'gelu_new'),
  initStd: v.optional(positive, 0.01),
};

/** Fills in the defaults of the method `owner`. @throws ConfigError naming the field. */
export function parseBottleneckConfig(owner: string, input: unknown): BottleneckConfig {
  return withTargets(parseOptions(owner, entries, input));
}
