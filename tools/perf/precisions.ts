/*
 * npx tsx --conditions @peftjs/source tools/perf/precisions.ts --fp32 DIR --q8 DIR [--results FILE]
 *
 * Measures whether 8-bit frozen weights cost quality: compares two runs of `peft-bench run` that differ only in
 * --dtype, for each pair of task and seed. Prints or writes one JSON object.
 */
import { writeFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { readResults, type DoneTrial } from '@peftjs/bench';
import { mean } from 'simple-statistics';
import { meanInterval, type Interval } from '../compare-peft/statistics.js';

/** A task's scores in both precisions, seed by seed. */
export interface PrecisionTask {
  /** The task. */
  readonly task: string;
  /** The metric. */
  readonly metric: string;
  /** Scores in float32. */
  readonly fp32: readonly number[];
  /** Scores with the frozen weights in 8 bits, of the same seeds. */
  readonly q8: readonly number[];
  /** 8 bits minus float32, with Student's 95 % interval over the seeds. */
  readonly difference: Interval;
}

/** The content of precision.json. */
export interface PrecisionResults {
  /** The method. */
  readonly method: string;
  /** Mean number of training rows. */
  readonly rows: number;
  /** Number of epochs. */
  readonly epochs: number;
  /** The scores of each task. */
  readonly tasks: readonly PrecisionTask[];
  /** 8 bits minus float32 over the pairs of all tasks, with Student's 95 % interval. */
  readonly difference: Interval;
}

const { values: flags } = parseArgs({
  options: { fp32: { type: 'string' }, q8: { type: 'string' }, results: { type: 'string' } },
});
if (!flags.fp32 || !flags.q8) throw new RangeError('expected --fp32 DIR --q8 DIR, two folders of peft-bench run');
const text = `${JSON.stringify(paired(await doneIn(flags.fp32), await doneIn(flags.q8)), null, 2)}\n`;
if (flags.results) await writeFile(flags.results, text);
else process.stdout.write(text);

async function doneIn(folder: string): Promise<DoneTrial[]> {
  const results = await readResults(folder);
  const failed = results.find(({ status }) => status === 'failed');
  if (failed || results.length === 0) throw new RangeError(`${folder} has no results, or a failed one`);
  return results.filter((result) => result.status === 'done');
}

function paired(fp32: readonly DoneTrial[], q8: readonly DoneTrial[]): PrecisionResults {
  const pairs = fp32.map((plain) => {
    const other = q8.find(({ task, seed }) => task === plain.task && seed === plain.seed);
    if (!other) throw new RangeError(`no 8-bit run of ${plain.task}, seed ${plain.seed}`);
    return { task: plain.task, metric: plain.selection.metric, fp32: scoreOf(plain), q8: scoreOf(other) };
  });
  const differences = (of: typeof pairs): number[] => of.map((pair) => pair.q8 - pair.fp32);
  const tasks = [...new Set(pairs.map(({ task }) => task))].map((task) => {
    const own = pairs.filter((pair) => pair.task === task);
    return {
      task,
      metric: own[0]?.metric ?? '',
      fp32: own.map((pair) => pair.fp32),
      q8: own.map((pair) => pair.q8),
      difference: meanInterval(differences(own)),
    };
  });
  const [first] = fp32 as [DoneTrial, ...DoneTrial[]];
  return {
    method: first.method,
    rows: mean(fp32.map(({ protocol }) => protocol.data.rows['train'] ?? NaN)),
    epochs: first.protocol.epochs,
    tasks,
    difference: meanInterval(differences(pairs)),
  };
}

function scoreOf({ metrics, selection }: DoneTrial): number {
  return metrics[selection.metric] as number;
}
