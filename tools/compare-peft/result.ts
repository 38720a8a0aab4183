import type { Side } from './settings.js';

/** What a run writes, in TypeScript and in Python alike. */
export interface RunResult {
  readonly side: Side;
  readonly task: string;
  readonly seed: number;
  /** Of the last checkpoint on the development set. */
  readonly metrics: Readonly<Record<string, number>>;
  /** The one that GLUE reports. */
  readonly primaryMetric: string;
  /** Of the first steps. */
  readonly losses: readonly number[];
  readonly steps: number;
  readonly seconds: {
    /** Of the process, start-up and loading included. */
    readonly total: number;
    /** Of all training steps; compilation included. */
    readonly train: number;
    readonly compile: number;
    readonly evaluate: number;
    readonly stepMedian: number;
  };
  /** Of the process, at its highest. */
  readonly peakRssBytes: number;
  readonly threads: number;
  /** Processes that wanted a core, over the minute before the run and over its last one; the run's own threads are in the second. */
  readonly load: { readonly before: number; readonly after: number };
  readonly cpu: string;
  readonly versions: Readonly<Record<string, string>>;
}
