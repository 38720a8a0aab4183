import type { Sizing } from './sizing-reason.js';
import type { Checkpoint } from './snapshot.js';

/** What a training run ends with. The model's adapter holds the selected checkpoint. */
export interface TrainResult {
  /** Steps of the whole run; `last.step` were taken. */
  readonly totalSteps: number;
  /** Whether early stopping ended it. */
  readonly stoppedEarly: boolean;
  /** The best checkpoint on the selection data among those that hold the budget; the last one without such data. */
  readonly selected: Checkpoint;
  readonly last: Checkpoint;
  /** Stored parameters of the adapter, averaged over the steps. */
  readonly meanParameters: number;
  readonly compileMs: number;
  /** How the size was chosen, of an adapter that leaves it to training; its `totalSteps` are the most that it might have taken. */
  readonly sizing?: Sizing;
}
