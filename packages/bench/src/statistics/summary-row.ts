import type { DoneTrial } from '../results/schema.js';
import type { PairedDifference } from './comparisons.js';
import type { Estimate } from './samples.js';

/**
 * The paired difference of the primary metric to the reference: this arm minus the reference, seed by seed. Where less of
 * the metric is better, so is a negative difference.
 */
export interface Difference extends PairedDifference {
  /** Label of the reference. */
  readonly to: string;
  /** `p` by Holm's method over the tasks. */
  readonly pHolm: number;
}

/** One arm at one budget on one task, over its seeds. */
export interface SummaryRow {
  readonly model: string;
  readonly task: string;
  /** The primary metric. */
  readonly metric: string;
  /** Whether less of it is better. */
  readonly lowerIsBetter: boolean;
  readonly arm: string;
  readonly method: string;
  readonly variant: number;
  /** The arm's name, with a number where a folder holds several configurations of it. */
  readonly label: string;
  readonly budget: Pick<DoneTrial['budget'], 'requested' | 'spec' | 'matchedOn' | 'met'>;
  /** Trains nothing but the head. */
  readonly baseline: boolean;
  /** Result files behind the row, by seed; `values` holds their primary metric. */
  readonly trials: readonly string[];
  readonly seeds: readonly number[];
  readonly values: readonly number[];
  readonly score: Estimate;
  readonly difference: Difference | null;
  /** Place among the rows of the same task and budget; null where `unranked` says why. */
  readonly rank: number | null;
  readonly unranked: string | null;
  /** Means over the seeds. */
  readonly parameters: DoneTrial['parameters'];
  readonly learningRate: number;
  /** Means over the seeds. */
  readonly time: DoneTrial['time'];
  readonly peakRssBytes: number;
}

/** A trial without a number. */
export interface Failure {
  readonly id: string;
  readonly arm: string;
  readonly method: string;
  readonly task: string;
  readonly budget: string;
  readonly seed: number;
  readonly message: string;
}

/** How good a row's mean is: more is better, whatever the metric. */
export function meritOf({ lowerIsBetter, score }: Pick<SummaryRow, 'lowerIsBetter' | 'score'>): number {
  return lowerIsBetter ? -score.mean : score.mean;
}
