/** Where a trial that is trained in stages is. */
export interface TrialStage {
  readonly stage: number;
  readonly stages: number;
}

/** What a running trial tells. */
export interface TrialProgress {
  readonly step: number;
  readonly totalSteps: number;
  readonly epoch: number;
  readonly epochs: number;
  /** Of a trial that is trained in stages: which one, from 0, and how many there are. */
  readonly stage?: TrialStage;
  readonly loss: number;
  readonly storedParameters: number;
  readonly metric?: { readonly name: string; readonly value: number };
}
