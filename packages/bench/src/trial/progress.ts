/** What a running trial tells. */
export interface TrialProgress {
  readonly step: number;
  readonly totalSteps: number;
  readonly epoch: number;
  readonly epochs: number;
  readonly loss: number;
  readonly storedParameters: number;
  readonly metric?: { readonly name: string; readonly value: number };
}
