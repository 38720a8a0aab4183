import { availableParallelism } from 'node:os';
import { Option, type Command } from 'commander';
import { count, studyFromFlags, withStudyFlags, type StudyFlags } from '@peftjs/cli';
import { isOnDevice, type ComposedStudy, type EnginePlan } from '@peftjs/cli/trials';
import { ConfigError } from '@peftjs/core/method';
import { didYouMean } from '@peftjs/core/model';
import { assertUntuned } from '../study/tuning.js';

/** The flags of a run: which trials it has, and where results go. */
export interface RunFlags extends StudyFlags {
  /** The number of seeds, from 1. Default the preset's. */
  readonly seeds?: number;
  /** The arm that differences are taken against. Default the study's. */
  readonly reference?: string;
  /** The folder for results and the report. */
  readonly out: string;
}

/** Adds the flags that define a run, on this machine or elsewhere. */
export function withRunFlags(command: Command): Command {
  return withStudyFlags(command)
    .option('--seeds <n>', 'number of seeds: trains with seeds 1 to n', count)
    .option('--reference <arm>', "arm that differences are taken against (default: the study's)")
    .requiredOption('--out <folder>', 'folder for results and the report');
}

/** Composes the study of a run. @throws ConfigError where `studyFromFlags` does, and for flags that do not apply to it. */
export async function runStudyFromFlags({ seeds, reference, ...flags }: RunFlags): Promise<ComposedStudy> {
  const composed = await studyFromFlags(flags, {
    ...(seeds !== undefined && { seeds }),
    ...(reference !== undefined && { reference }),
  });
  if (flags.learningRate !== undefined) assertUntuned(composed.study);
  if (reference !== undefined) assertReference(reference, Object.keys(composed.study.methods));
  return composed;
}

/** @throws ConfigError unless `--reference` names one of the arms. */
export function assertReference(reference: string, arms: readonly string[]): void {
  if (arms.includes(reference)) return;
  throw new ConfigError(
    `--reference is '${reference}'${didYouMean(reference, arms)}; expected an arm of the run: ${arms.join(', ')}`,
    'reference',
  );
}

/** Parses a non-negative integer flag. @throws InvalidArgumentError for anything else. */
export function countFromZero(text: string): number {
  return text === '0' ? 0 : count(text);
}

/** The `--queue` option. The environment variable keeps a password out of the process list. */
export function queueOption(about: string): Option {
  return new Option('--queue <url>', about).env('PEFT_BENCH_QUEUE');
}

/** The default number of worker processes: one per core, or one for a device. */
export function defaultWorkers(engine: EnginePlan): number {
  return isOnDevice(engine) ? 1 : availableParallelism();
}
