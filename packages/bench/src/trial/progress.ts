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

/** A call that is made at once, and then at most once in so many milliseconds; what comes too soon is dropped. */
export function throttled<T>(call: (value: T) => void, ms: number): (value: T) => void {
  let last = -Infinity;
  return (value) => {
    const now = performance.now();
    if (now - last < ms) return;
    last = now;
    call(value);
  };
}
