import type { EncoderName } from '../perf/cases.js';
import type { Peak } from '../perf/peak.js';

/** What takes the step, and in which precision. */
export type Side = 'peftjs-fp32' | 'peftjs-q8' | 'torch-fp32' | 'torch-bf16' | 'torch-compile';

const SIDES: readonly Side[] = ['peftjs-fp32', 'torch-fp32', 'peftjs-q8', 'torch-bf16'];

/** The shapes that are compared, and the sides of each, in the order in which they run. */
export const compared = {
  minilm: [...SIDES, 'torch-compile'],
  'bert-base': SIDES,
} as const satisfies Partial<Record<EncoderName, readonly Side[]>>;

/** A shape that is compared. */
export type ComparedShape = keyof typeof compared;

/** One side's run of a shape. */
export interface Run {
  readonly stepMedianMs: number;
  /** Highest memory of the process, the model's loading included. */
  readonly peakRssBytes: number;
  /** To the end of the first step, compilation included. */
  readonly startSeconds: number;
  readonly versions?: Readonly<Record<string, string>>;
}

/** All sides of a shape, one after the other. */
export interface Round {
  readonly shape: ComparedShape;
  /** Of the machine, before the first of them. */
  readonly load: number;
  readonly runs: Readonly<Partial<Record<Side, Run>>>;
}

/** speed.json. */
export interface SpeedResults {
  readonly cpu: string;
  readonly threads: number;
  readonly node: string;
  readonly peak: Peak;
  readonly rounds: readonly Round[];
}

/** The sides of an epoch of real text, in the order in which they run. */
export const EPOCH_SIDES = ['peftjs-fp32', 'torch-fp32', 'peftjs-q8'] as const satisfies readonly Side[];
export type EpochSide = (typeof EPOCH_SIDES)[number];

/** The texts, by their names in GLUE. */
export const EPOCH_TASKS = ['cola', 'sst2'] as const;

/** One side's epoch, from the rows to the last step. */
export interface EpochRun {
  readonly rows: number;
  readonly steps: number;
  /** Tokenisation and compilation included. */
  readonly epochSeconds: number;
  readonly tokeniseSeconds: number;
  readonly compileSeconds?: number;
  /** Of the positions that are computed. */
  readonly paddingShare: number;
  readonly peakRssBytes: number;
}

/** All sides of a task, one after the other. */
export interface EpochRound {
  readonly task: (typeof EPOCH_TASKS)[number];
  readonly load: number;
  readonly runs: Readonly<Record<EpochSide, EpochRun>>;
}

/** epochs.json. */
export interface EpochResults {
  readonly threads: number;
  readonly rounds: readonly EpochRound[];
}
