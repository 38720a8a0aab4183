import { availableParallelism } from 'node:os';
import { Option, type Command } from 'commander';
import { ConfigError, DataError } from '@peftjs/core/method';
import { didYouMean } from '@peftjs/core/model';
import { NUMERICS } from '@peftjs/core/runtime';
import {
  amount,
  assertInputs,
  CHECKPOINT_EVERY,
  checkOut,
  commandName,
  count,
  FORCE,
  inClaimedFolder,
  listPresets,
  MOST_USED,
  INTERRUPTED,
  studyFromFlags,
  untilSignal,
  withExample,
  withStudyFlags,
  type CheckpointFlags,
  type OutFlags,
  type StudyFlags,
} from '@peftjs/cli';
import {
  assertSharable,
  inProcessRunner,
  isOnDevice,
  localRunner,
  parseShard,
  planRun,
  planTrials,
  referenceOf,
  shardOf,
  type ComposedStudy,
  type EnginePlan,
  type PlannedRun,
  type Shard,
  type TrialRunner,
} from '@peftjs/cli/trials';
import { writeReport, renderTable } from '../report/files.js';
import { counted, quoted } from '@peftjs/cli/format';
import { summarise } from '../report/statistics/summary.js';
import { compareRuns } from '../report/statistics/two-runs.js';
import {
  checkpointFolder,
  keepNewestNumerics,
  openResults,
  readResults,
  removeCheckpoints,
  runFileIn,
  toJson,
  tuningFolder,
  writeRunFile,
  type PooledResults,
  type TrialResult,
} from '@peftjs/cli/results';
import { assertInstalled, parseAddress } from '../run/queue/contract.js';
import { runTrials, tune, withoutRetuned } from '../run/run-trials.js';
import { assertUntuned } from '../run/tuning.js';
import { planOf, printPlan, type PlanFlags } from './plan.js';

/** The flags of `peft-bench run`. */
interface Flags extends StudyFlags, OutFlags, CheckpointFlags, PlanFlags {
  readonly seeds?: number;
  readonly reference?: string;
  readonly workers?: number;
  readonly queue?: string;
  readonly shard?: Shard;
  readonly json?: boolean;
}

/** `peft-bench run`: runs every trial of a study and writes its report. */
export function addRunCommand(program: Command): void {
  const command = program.command('run').description('compare methods at equal parameter budgets');
  const example = 'run --train reviews.csv --budget r=4 --seeds 3 --out comparison';
  withStudyFlags(listPresets(withExample(command, example)))
    .option('--seeds <n>', 'number of seeds: trains with seeds 1 to n', count)
    .option('--reference <arm>', "arm that differences are taken against (default: the study's)")
    .optionsGroup(MOST_USED)
    .requiredOption('--out <folder>', 'folder for results and the report')
    .option(...FORCE)
    .option('--json', 'print one line of JSON per finished trial, or for the plan')
    .optionsGroup('Computing:')
    .option(
      '--workers <n>',
      'trials at a time, one process each (default: one per core, or one for a device); 0 runs them in this process',
      countFromZero,
    )
    .addOption(
      queueOption('give the trials to the workers on a Redis: redis://host:port').conflicts([
        'workers',
        'shard',
        'plan',
      ]),
    )
    .option('--shard <i/n>', 'run one share of the trials: 0/4, 1/4, 2/4 and 3/4 together run all of them', parseShard)
    .option(...CHECKPOINT_EVERY)
    .optionsGroup('Planning:')
    .addOption(
      new Option(
        '--plan',
        'only estimate what the study costs and what it can show, by measuring a few steps',
      ).conflicts('shard'),
    )
    .addOption(
      new Option('--spread <sd>', 'for --plan: standard deviation over seeds of the difference between two equal arms')
        .argParser(amount)
        .conflicts('spreadFrom'),
    )
    .option(
      '--spread-from <folder>',
      'for --plan: an earlier run to estimate it from (default: --out, if it holds results)',
    )
    .action(async (flags: Flags) => {
      process.exitCode = await untilSignal((signal) => run(flags, signal));
    });
}

/** The `--queue` option. The environment variable keeps a password out of the process list. */
export function queueOption(about: string): Option {
  return new Option('--queue <url>', about).env('PEFT_BENCH_QUEUE');
}

/** Parses a non-negative integer flag. @throws InvalidArgumentError for anything else. */
function countFromZero(text: string): number {
  return text === '0' ? 0 : count(text);
}

/** Runs a study. @returns the exit code: 0 if all trials are done, 1 if some failed, 130 if interrupted. */
async function run(flags: Flags, signal: AbortSignal): Promise<number> {
  const { out, shard } = flags;
  checkPlanFlags(flags);
  assertInputs(flags);
  if (flags.plan) return plan(flags, signal);
  checkOut(flags, 'results');
  const openRunner = await runnerFromFlags(flags);
  const composed = await runStudyFromFlags(flags);
  if (shard) assertSharable(composed.study);
  const planned = await planRun(composed);
  return inClaimedFolder(out, { isShared: shard !== undefined }, () =>
    runPlanned(flags, planned, { openRunner, signal }),
  );
}

/**
 * Composes the study of a run.
 * @throws ConfigError where `studyFromFlags` does, and for flags that do not apply to it.
 */
export async function runStudyFromFlags({ seeds, reference, ...flags }: Flags): Promise<ComposedStudy> {
  const composed = await studyFromFlags(flags, {
    ...(seeds !== undefined && { seeds }),
    ...(reference !== undefined && { reference }),
  });
  if (flags.learningRate !== undefined) assertUntuned(composed.study);
  if (reference !== undefined) assertReference(reference, Object.keys(composed.study.methods));
  return composed;
}

/** @throws ConfigError unless `--reference` names one of the arms. */
function assertReference(reference: string, arms: readonly string[]): void {
  if (arms.includes(reference)) return;
  throw new ConfigError(
    `--reference is '${reference}'${didYouMean(reference, arms)}; expected an arm of the run: ${arms.join(', ')}`,
    'reference',
  );
}

/** The default number of worker processes: one per core, or one for a device. */
export function defaultWorkers(engine: EnginePlan): number {
  return isOnDevice(engine) ? 1 : availableParallelism();
}

/** @throws ConfigError for a spread without `--plan`. */
function checkPlanFlags({ plan, spread, spreadFrom }: PlanFlags): void {
  if (plan || (spread === undefined && spreadFrom === undefined)) return;
  const flag = spread === undefined ? 'spread-from' : 'spread';
  throw new ConfigError(`--${flag} is for --plan, which estimates what a study can show; add --plan`, flag);
}

/** `--plan`: measures a few steps of the study, and prints what it costs and can show. */
async function plan(flags: Flags, signal: AbortSignal): Promise<number> {
  const composed = await runStudyFromFlags(flags);
  const { engine, plan: context } = await planRun(composed);
  const workers = flags.workers ?? defaultWorkers(engine);
  try {
    printPlan(await planOf(context, workers, flags, signal), flags.json ?? false);
    return 0;
  } catch (error) {
    if (signal.aborted) return INTERRUPTED;
    throw error;
  }
}

async function runPlanned(
  { out, shard, json }: Flags,
  { engine, tasks, plan }: PlannedRun,
  { openRunner, signal }: { readonly openRunner: OpenRunner; readonly signal: AbortSignal },
): Promise<number> {
  const runner = openRunner(engine);
  const context = { out, runner, tasks, signal };
  try {
    const [reported, tried] = [await openResults(out), await openResults(tuningFolder(out))];
    const everyResult = (): TrialResult[] => [...reported.all(), ...tried.all()];
    const foreign = foreignNumerics(out, everyResult());
    if (foreign !== undefined) process.stderr.write(`${commandName}: ${foreign}\n`);
    await writeRunFile(out, { reference: referenceOf(plan), margin: plan.study.margin, claims: plan.study.claims });
    const tuned = await tune(plan, tried, context);
    if (!tuned) return interrupted(out, ' while tuning learning rates; the finished trials are');
    const all = planTrials(plan, tuned);
    const trials = shard ? shardOf(all, shard) : all;
    const results = await runTrials(reported, trials, { ...context, ...(json ? { onResult: printResult } : {}) });
    const done = new Set(everyResult().flatMap(({ id, status }) => (status === 'done' ? [id] : [])));
    await removeCheckpoints(checkpointFolder(out), (id) => done.has(id));
    if (signal.aborted) return interrupted(out, `; ${results.length} of ${trials.length} trials are`);
    if (shard) {
      process.stderr.write(
        `${commandName}: the ${results.length} trials of share ${shard.index}/${shard.of} are in ${out}; once all shares are there, run ${commandName} report ${quoted(out)}\n`,
      );
    } else await report(out, reported.all());
    return results.every(({ status }) => status === 'done') ? 0 : 1;
  } finally {
    await runner.close?.();
  }
}

/** Makes the runner of the trials, for an engine. */
type OpenRunner = (engine: EnginePlan) => TrialRunner;

/** Decides where the trials run. An unreachable Redis is reported before anything is loaded. */
async function runnerFromFlags({ queue, out, workers, checkpointEvery }: Flags): Promise<OpenRunner> {
  const checkpointing = checkpointEvery === undefined ? {} : { checkpointEvery };
  if (queue === undefined) {
    const checkpoints = checkpointFolder(out);
    if (workers === 0) return () => inProcessRunner({ checkpoints, ...checkpointing });
    return (engine) => localRunner({ workers: workers ?? defaultWorkers(engine), checkpoints, ...checkpointing });
  }
  const address = parseAddress(queue);
  assertInstalled();
  const { queueRunner } = await import('../run/queue/runner.js');
  const runner = await queueRunner(address, checkpointing);
  return () => runner;
}

function printResult(result: TrialResult): void {
  process.stdout.write(`${toJson(result)}\n`);
}

function interrupted(out: string, kept: string): number {
  process.stderr.write(`${commandName}: stopped${kept} in ${out}. Rerun the same command to resume.\n`);
  return INTERRUPTED;
}

/** The settings of a report. */
interface ReportOptions {
  /** The arm that differences are taken against. Default the run's. */
  readonly reference?: string;
  /** Another results folder to compare with, trial by trial. */
  readonly against?: string;
}

/** `peft-bench report`: writes the summary and the reports of existing results. */
export function addReportCommand(program: Command): void {
  withExample(program.command('report'), 'report comparison')
    .description('regenerate the summary and the reports of a results folder')
    .argument('<folder>', 'the --out folder of a run')
    .option('--reference <arm>', "arm that differences are taken against (default: the run's)")
    .option('--against <folder>', 'another run of the study, to compare with trial by trial')
    .action(async (folder: string, options: ReportOptions) => {
      await report(folder, await readResults(folder), options);
    });
}

/**
 * Writes summary.json and the reports of a folder's results, and prints the table. A run ends with this too, so
 * `peft-bench report` gives the same report.
 * @throws DataError if there are no results.
 */
async function report(
  folder: string,
  all: readonly TrialResult[],
  { reference, against }: ReportOptions = {},
): Promise<void> {
  const pooled = poolable(folder, all);
  const { results } = pooled;
  if (reference !== undefined) assertReference(reference, [...new Set(results.map(({ arm }) => arm))]);
  const other = against === undefined ? undefined : poolable(against, await readResults(against)).results;
  const stated = await runFileIn(folder);
  const summary = summarise(results, {
    ...stated,
    reference: reference ?? stated?.reference ?? firstBudgeted(results),
  });
  const whole = {
    ...summary,
    notes: [...exclusionNotes(pooled), ...summary.notes],
    ...(against !== undefined && other && { against: compareRuns(results, other, against) }),
  };
  await writeReport(folder, results, whole);
  const table = renderTable(whole, { columns: process.stderr.columns || 140 });
  process.stderr.write(`\n${[table, ...exclusionNotes(pooled), `report: ${folder}/report.html`].join('\n\n')}\n`);
}

/** The results of a folder that can be pooled and that no rerun has replaced. @throws DataError if there are none. */
function poolable(folder: string, results: readonly TrialResult[]): PooledResults {
  if (results.length > 0) return keepNewestNumerics(withoutRetuned(results));
  throw new DataError(
    `${folder} holds no results; create them with ${commandName} run --out ${quoted(folder)}`,
    folder,
  );
}

/** The arm to take differences against, where neither the user nor the run names one. */
function firstBudgeted(results: readonly TrialResult[]): string {
  return (results.find(({ budget }) => budget.requested !== null) ?? results[0])?.arm ?? '';
}

/** The sentence of a report about results that it leaves out; empty if there are none. */
export function exclusionNotes({ results, excluded }: PooledResults): string[] {
  if (excluded.length === 0) return [];
  const are = excluded.length === 1 ? 'is' : 'are';
  return [
    `${counted(excluded.length, 'result')} of ${named(excluded)} ${are} left out: another version computed ` +
      `${excluded.length === 1 ? 'it' : 'them'}, and only numbers of one version can be pooled, here ${named(results)}.`,
  ];
}

/** Says which results in a run's folder another version computed; undefined if there are none. */
function foreignNumerics(folder: string, results: readonly TrialResult[]): string | undefined {
  const foreign = results.filter(({ versions }) => versions.numerics !== NUMERICS);
  if (foreign.length === 0) return undefined;
  return (
    `${folder} has ${counted(foreign.length, 'result')} of ${named(foreign)}, but this version computes numerics ${NUMERICS}: ` +
    'these are kept, but neither resumed nor pooled'
  );
}

/** The revisions of core's numerics that computed results, e.g. `numerics 0, 1`. */
function named(results: readonly TrialResult[]): string {
  return `numerics ${[...new Set(results.map(({ versions }) => versions.numerics))].sort((a, b) => a - b).join(', ')}`;
}
