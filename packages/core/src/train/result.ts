import type { Sizing } from './size-stages.js';
import type { Checkpoint } from './snapshot.js';

/** The result of a training run. The model's adapter holds the selected checkpoint. */
export interface TrainResult {
  /** The planned number of steps; `last.step` were actually run. */
  readonly totalSteps: number;
  /** Whether early stopping ended the run. */
  readonly stoppedEarly: boolean;
  /** The best checkpoint on the selection data among those within the budget; without such data the last one. */
  readonly selected: Checkpoint;
  /** The checkpoint after the last step. */
  readonly last: Checkpoint;
  /** The adapter's stored parameters, averaged over the steps. */
  readonly meanParameters: number;
  /** Milliseconds spent compiling. */
  readonly compileMs: number;
  /**
   * How the run chose its adapter's size, for an adapter that leaves it to training. `totalSteps` is then the largest
   * possible number.
   */
  readonly sizing?: Sizing;
}
