import { readFileSync } from 'node:fs';

/** Everything that both sides of the comparison share; settings.json, which peer.py reads too. */
export interface Settings {
  readonly seeds: readonly number[];
  readonly batchSize: number;
  readonly maxTokens: number;
  /** Lengths that batches are padded to, at most. */
  readonly maxShapes: number;
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
