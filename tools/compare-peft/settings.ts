import { readFileSync } from 'node:fs';

/** The settings that both sides of a comparison share, from the file with its name, which peer.py also reads. */
export interface Settings {
  /** The seeds. */
  readonly seeds: readonly number[];
  /** Rows per batch. */
  readonly batchSize: number;
  /** The maximum number of tokens per row. */
  readonly maxTokens: number;
  /** Threads per run. */
  readonly threads: number;
  /** The network's own dropout: the rates of its configuration, or none. */
  readonly dropout: 'config' | 0;
  /** Whether the head is trained; otherwise it keeps its random initial values. */
  readonly trainHead: boolean;
  /** How a checkpoint is selected. Default: all rows are trained on, and the last checkpoint counts. */
  readonly earlyStopping?: {
    /** The number of training rows. */
    readonly rows: number;
    /** The number of other training rows, which are evaluated after every epoch. */
    readonly selectionRows: number;
    /** The run ends after this many epochs in a row without a better score, with the best checkpoint. */
    readonly patience: number;
  };
  /** The options of LoRA, on both sides. */
  readonly lora: {
    readonly r: number;
    readonly loraAlpha: number;
    readonly loraDropout: number;
    readonly targetModules: readonly string[];
  };
  /** The options of the optimizer and its schedule. */
  readonly optimizer: {
    readonly learningRate: number;
    readonly beta1: number;
    readonly beta2: number;
    readonly epsilon: number;
    readonly weightDecay: number;
    readonly warmupRatio: number;
    readonly clipNorm: number;
  };
  /** The number of first steps whose losses are recorded. */
  readonly recordedLosses: number;
  /** Settings by task. */
  readonly tasks: Readonly<Record<string, TaskSettings>>;
}

/** The settings of a task. */
interface TaskSettings {
  /** Passes over the training rows. */
  readonly epochs: number;
  /** Use only the first rows of the training file. Default all. */
  readonly firstRows?: number;
  /** Whether the task runs only if `--tasks` names it. Default false. */
  readonly outOfTable?: boolean;
}

/** Reads the settings of a comparison, `parity` or `bert-base-1k`. */
export function readSettings(name: string): Settings {
  return JSON.parse(readFileSync(new URL(`${name}.json`, import.meta.url), 'utf8')) as Settings;
}

/** The tasks of the table, in the order in which they run. */
export function tableTasks({ tasks }: Settings): string[] {
  return Object.keys(tasks).filter((task) => !tasks[task]?.outOfTable);
}

/** Returns the settings of a task. @throws RangeError for an unknown task. */
export function taskSettings({ tasks }: Settings, task: string): TaskSettings {
  const found = tasks[task];
  if (found) return found;
  throw new RangeError(`expected a task, one of ${Object.keys(tasks).join(', ')}, got '${task}'`);
}

/** The two sides of the comparison. */
export const sides = ['peftjs', 'peft'] as const;
/** A side of the comparison. */
export type Side = (typeof sides)[number];

/** The result of a run, the same in TypeScript and Python. */
export interface RunResult {
  /** The side. */
  readonly side: Side;
  /** The task. */
  readonly task: string;
  /** The seed. */
  readonly seed: number;
  /** Metrics of the selected checkpoint on the development set. */
  readonly metrics: Readonly<Record<string, number>>;
  /** The metric that GLUE reports. */
  readonly primaryMetric: string;
  /** The losses of the first steps. */
  readonly losses: readonly number[];
  /** The number of training steps. */
  readonly steps: number;
  /** Durations. */
  readonly seconds: {
    /** The whole process, including start-up and loading. */
    readonly total: number;
    /** All training steps, including compilation and the selection of a checkpoint. */
    readonly train: number;
    /** Compilation. */
    readonly compile: number;
    /** Evaluation. */
    readonly evaluate: number;
    /** The median step. */
    readonly stepMedian: number;
  };
  /** The peak memory of the process. */
  readonly peakRssBytes: number;
  /** Threads of the run. */
  readonly threads: number;
  /**
   * The load average over the minute before the run, and over its last minute. The second includes the run's own
   * threads.
   */
  readonly load: { readonly before: number; readonly after: number };
  /** The name of the processor. */
  readonly cpu: string;
  /** Versions of the libraries, by name. */
  readonly versions: Readonly<Record<string, string>>;
}
