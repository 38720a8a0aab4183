import type { SettingName, SizesName } from '../perf/cases.js';
import type { CaseResult } from '../perf/measure.js';
import type { Peak } from '../perf/peak.js';

/** Arguments of step.py by the setting of PyTorch. */
export const torchSettings = {
  fp32: [],
  bf16: ['--precision', 'bf16'],
  compile: ['--precision', 'compile'],
  'fp32-checkpointing': ['--checkpointing'],
  'bf16-checkpointing': ['--precision', 'bf16', '--checkpointing'],
} as const;

/** The software that takes the step, and its setting. */
export type Side = `peftjs-${SettingName}` | `torch-${keyof typeof torchSettings}`;

const ENCODER_SIDES = ['peftjs-fp32', 'torch-fp32', 'peftjs-q8', 'torch-bf16'] as const;
const CHECKPOINTED = ['peftjs-fp32-checkpointing', 'torch-fp32-checkpointing'] as const;
const SMALL = ['peftjs-q8-checkpointing', 'torch-bf16-checkpointing', 'peftjs-q4-checkpointing'] as const;
const DECODER_SIDES = [...ENCODER_SIDES, ...CHECKPOINTED, ...SMALL] as const;

/** The compared sizes by group, and the sides of each in the order in which they run. */
export const compared = {
  encoders: { minilm: [...ENCODER_SIDES, 'torch-compile'], 'bert-base': ENCODER_SIDES },
  decoders: {
    'smollm2-135m-1x1024': DECODER_SIDES,
    'smollm2-135m-4x512': DECODER_SIDES,
    'smollm2-135m-8x128': DECODER_SIDES,
    'qwen3-0.6b-1x1024': SMALL,
    'qwen3-0.6b-4x128': ['peftjs-fp32', 'torch-fp32', 'peftjs-q8'],
  },
} as const satisfies Record<string, Partial<Record<SizesName, readonly Side[]>>>;

/** A group of compared sizes. */
export type Group = keyof typeof compared;

/** One side's run of a size: of peftjs a {@link CaseResult}, of PyTorch what step.py prints. */
export interface Run extends Pick<CaseResult, 'stepMedianMs' | 'peakRssBytes' | 'firstStepSeconds'> {
  /** The versions of PyTorch's side by package; peftjs's sides have none. */
  readonly versions?: Readonly<Record<string, string>>;
}

/** One side's run of a decoder. */
export interface DecoderRun extends Run, Pick<CaseResult, 'firstStepCpuSeconds' | 'stepPeakBytes' | 'graphNodes'> {}

/** All sides of a size, run one after the other. */
export interface Round<R extends Run = Run> {
  /** The size. */
  readonly shape: SizesName;
  /** Load average of the machine before the first run. */
  readonly load: number;
  /** The run of each side. */
  readonly runs: Readonly<Partial<Record<Side, R>>>;
}

/** The content of speed.json and, with the runs of decoders, of decoders.json. */
export interface SpeedResults<R extends Run = Run> {
  /** The model of the processor. */
  readonly cpu: string;
  /** Number of threads. */
  readonly threads: number;
  /** Version of Node. */
  readonly node: string;
  /** The machine's best rates of matrix products. */
  readonly peak: Peak;
  /** All rounds, in order. */
  readonly rounds: readonly Round<R>[];
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
