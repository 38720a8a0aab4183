import type { ConfiguredMethod, PeftMethod, Site } from '@peftjs/core/method';
import { rankUnit } from '@peftjs/core/ranks';
import { adalora } from '@peftjs/adalora';
import { lora, truncatedLora } from '@peftjs/lora';
import { sora } from '@peftjs/sora';
import { TARGETS } from './encoder.js';
import type { Ranks } from './allocations.js';

/** A student: a method with options and training settings. Plain data, so that a file can hold arms. */
export interface Arm {
  /** The arm's name in flags and tables. */
  readonly name: string;
  /** The method. */
  readonly method: 'lora' | 'truncated-lora' | 'adalora' | 'sora';
  /** Options of the method. They override the options that `fitBudget` chooses for the true total rank. */
  readonly options?: Readonly<Record<string, unknown>>;
  /** Peak learning rate. Default `RATE`. */
  readonly learningRate?: number;
  /** Learning rates by optimizer group, e.g. `{ gate: 0.02 }`. */
  readonly learningRates?: Readonly<Record<string, number>>;
  /** Other options of `train`: schedule, warmupRatio, finalRatio, clipNorm, unclippedGroups. */
  readonly training?: Readonly<Record<string, unknown>>;
  /**
   * Knowledge of the teacher. `'true-ranks'`: every module has its true rank. `'oracle'`: trains all ranks, then prunes
   * those that matter least for the teacher's logits. Default none.
   */
  readonly knows?: 'true-ranks' | 'oracle';
}

/** The default peak learning rate of an arm. */
export const RATE = 1e-2;
/** The initial rank of adaptive arms in every module: eight times the mean rank, and more than any true rank. */
export const MAX_RANKS = 8;
/** The update is scaled by 2 in every arm: alpha / r, whether r is `MAX_RANKS` or one. */
const ALPHA = 2;
const FULL = { r: MAX_RANKS, loraAlpha: ALPHA * MAX_RANKS };

/** The built-in arms. */
export const ARMS: readonly Arm[] = [
  { name: 'oracle', method: 'lora', knows: 'oracle', options: FULL },
  { name: 'true-ranks', method: 'lora', knows: 'true-ranks' },
  { name: 'lora', method: 'lora', options: { loraAlpha: ALPHA } },
  { name: 'adalora', method: 'adalora', options: { initR: MAX_RANKS, loraAlpha: ALPHA * MAX_RANKS } },
  { name: 'truncated-lora', method: 'truncated-lora', options: FULL },
  { name: 'sora', method: 'sora', options: FULL },
  { name: 'sora-paper', method: 'sora', options: { ...FULL, variant: 'paper' } },
  { name: 'sora-ones', method: 'sora', options: { ...FULL, separation: false } },
  { name: 'sora-random', method: 'sora', options: { ...FULL, selection: 'random' } },
];

const METHODS = { lora, 'truncated-lora': truncatedLora, adalora, sora } as unknown as Readonly<
  Record<Arm['method'], PeftMethod>
>;

/**
 * Returns the method of an arm, with a budget of the true total rank.
 * @throws ConfigError for options that the method does not have.
 */
export function configuredArm(
  { method: name, options = {}, knows }: Arm,
  sites: readonly Site[],
  truth: Ranks,
): ConfiguredMethod {
  const method = METHODS[name];
  const total = Object.values(truth).reduce((sum, rank) => sum + rank, 0);
  const budget = (total * rankUnit(sites)) / sites.length; // a rank costs the same in every module
  const start = method.parseConfig({ ...TARGETS, ...options });
  const fitted = knows ? start : (method.fitBudget?.(sites, budget, start) ?? start);
  const known = knows === 'true-ranks' ? trueRanks(truth) : {};
  return { method, config: method.parseConfig({ ...fitted, ...options, ...known }) };
}

/** Returns options of LoRA with the true ranks and the same scale for all updates. */
function trueRanks(truth: Ranks): Readonly<Record<string, unknown>> {
  const known = Object.entries(truth).filter(([, rank]) => rank > 0);
  return {
    targetModules: known.map(([path]) => path),
    excludeModules: null,
    rankPattern: Object.fromEntries(known),
    alphaPattern: Object.fromEntries(known.map(([path, rank]) => [path, ALPHA * rank])),
  };
}
