import { readFileSync } from 'node:fs';

/** Everything that both sides of the comparison share; settings.json, which peer.py reads too. */
interface Settings {
  readonly seeds: readonly number[];
  readonly batchSize: number;
  readonly maxTokens: number;
  readonly threads: number;
  readonly lora: {
    readonly r: number;
    readonly loraAlpha: number;
    readonly loraDropout: number;
    readonly targetModules: readonly string[];
  };
  readonly optimizer: {
    readonly learningRate: number;
    readonly beta1: number;
    readonly beta2: number;
    readonly epsilon: number;
    readonly weightDecay: number;
    readonly warmupRatio: number;
    readonly clipNorm: number;
  };
  /** Losses of the first steps that a result holds. */
  readonly recordedLosses: number;
  readonly tasks: Readonly<Record<string, TaskSettings>>;
}

interface TaskSettings {
  readonly epochs: number;
  /** Training rows, from the first on. Default: all. */
  readonly firstRows?: number;
  /** Whether it is run only when it is named. */
  readonly outOfTable?: boolean;
}

export const settings = JSON.parse(readFileSync(new URL('settings.json', import.meta.url), 'utf8')) as Settings;

/** The tasks of the table, in the order in which they are run. */
export const tableTasks = Object.keys(settings.tasks).filter((task) => !settings.tasks[task]?.outOfTable);

/** The settings of a task. @throws RangeError for an unknown one. */
export function taskSettings(task: string): TaskSettings {
  const found = settings.tasks[task];
  if (found) return found;
  throw new RangeError(`expected a task, one of ${Object.keys(settings.tasks).join(', ')}, got '${task}'`);
}

/** The two sides of the comparison. */
export const sides = ['peftjs', 'peft'] as const;
export type Side = (typeof sides)[number];

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
