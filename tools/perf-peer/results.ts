import type { EncoderName } from '../perf/cases.js';
import type { Peak } from '../perf/peak.js';

/** The software that takes the step, and its precision. */
export type Side = 'peftjs-fp32' | 'peftjs-q8' | 'torch-fp32' | 'torch-bf16' | 'torch-compile';

const SIDES: readonly Side[] = ['peftjs-fp32', 'torch-fp32', 'peftjs-q8', 'torch-bf16'];

/** The shapes compared, and the sides of each in the order in which they run. */
export const compared = {
  minilm: [...SIDES, 'torch-compile'],
  'bert-base': SIDES,
} as const satisfies Partial<Record<EncoderName, readonly Side[]>>;

/** The name of a shape that is compared. */
export type ComparedShape = keyof typeof compared;

/** One side's run of a shape. */
export interface Run {
  /** Median time of a step, in milliseconds. */
  readonly stepMedianMs: number;
  /** Peak memory of the process in bytes, including the loading of the model. */
  readonly peakRssBytes: number;
  /** Seconds to the end of the first step, including compilation. */
  readonly startSeconds: number;
  /** The versions of PyTorch's side by package; peftjs's sides have none. */
  readonly versions?: Readonly<Record<string, string>>;
}

/** All sides of a shape, run one after the other. */
export interface Round {
  /** The shape. */
  readonly shape: ComparedShape;
  /** Load average of the machine before the first run. */
  readonly load: number;
  /** The run of each side. */
  readonly runs: Readonly<Partial<Record<Side, Run>>>;
}

/** The content of speed.json. */
export interface SpeedResults {
  /** The model of the processor. */
  readonly cpu: string;
  /** Number of threads. */
  readonly threads: number;
  /** Version of Node. */
  readonly node: string;
  /** The machine's best rates of matrix products. */
  readonly peak: Peak;
  /** All rounds, in order. */
  readonly rounds: readonly Round[];
}

/** The sides compared on an epoch of real text, in the order in which they run. */
export const EPOCH_SIDES = ['peftjs-fp32', 'torch-fp32', 'peftjs-q8'] as const satisfies readonly Side[];
/** One side of the comparison of epochs. */
export type EpochSide = (typeof EPOCH_SIDES)[number];

/** The data sets, by their names in GLUE. */
export const EPOCH_TASKS = ['cola', 'sst2'] as const;

/** One side's epoch, from the rows to the last step. */
export interface EpochRun {
  /** Rows of the epoch. */
  readonly rows: number;
  /** Steps of the epoch. */
  readonly steps: number;
  /** Seconds of the epoch, including tokenisation and compilation. */
  readonly epochSeconds: number;
  /** Seconds of tokenisation. */
  readonly tokeniseSeconds: number;
  /** Seconds of compilation; only peftjs's sides have it. */
  readonly compileSeconds?: number;
  /** Padding as a share of all computed positions, 0 to 1. */
  readonly paddingShare: number;
  /** Peak memory of the process, in bytes. */
  readonly peakRssBytes: number;
}

/** All sides of a task, run one after the other. */
export interface EpochRound {
  /** The task. */
  readonly task: (typeof EPOCH_TASKS)[number];
  /** Load average of the machine before the first run. */
  readonly load: number;
  /** The epoch of each side. */
  readonly runs: Readonly<Record<EpochSide, EpochRun>>;
}

/** The content of epochs.json. */
export interface EpochResults {
  /** Number of threads. */
  readonly threads: number;
  /** All rounds, in order. */
  readonly rounds: readonly EpochRound[];
}
