/** A learning rate that was tried. */
export interface TriedRate {
  readonly learningRate: number;
  /** The mean over the seeds of the primary metric on the selection rows; null where a trial failed, which is worse than any score. */
  readonly score: number | null;
  /** Why the first trial that failed did. */
  readonly error?: string;
}

/** How a learning rate was chosen. */
export interface TunedRate {
  /** From the smallest rate. */
  readonly tried: readonly TriedRate[];
  /** The best one, of equals the smallest; null where every one failed. */
  readonly chosen: number | null;
}

/** What tuning found for an arm. */
export interface TunedArm extends TunedRate {
  readonly arm: string;
  /** The task it was found on, and whether it is for all of them. */
  readonly task: string;
  readonly forAllTasks: boolean;
  /** As typed; null for a method that takes none. */
  readonly budget: string | null;
  readonly seeds: readonly number[];
  readonly metric: string | null;
  readonly lowerIsBetter: boolean;
}

/** What was found for an arm that is to be run on a task; null where it was not tuned. */
export function tunedRate(tuned: readonly TunedArm[], arm: string, task: string): TunedRate | null {
  const found = tuned.find((row) => row.arm === arm && (row.forAllTasks || row.task === task));
  return found ? { tried: found.tried, chosen: found.chosen } : null;
}
