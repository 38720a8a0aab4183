import type { Command } from 'commander';
import { ConfigError, DataError } from '@peftjs/core/method';
import {
  commandName,
  amount,
  assertInputs,
  CHECKPOINT_EVERY,
  checkOut,
  FORCE,
  inClaimedFolder,
  INTERRUPTED,
  untilSignal,
  type CheckpointFlags,
  type OutFlags,
} from '@peftjs/cli';
import {
  planRun,
  inProcessRunner,
  localRunner,
  assertSharable,
  parseShard,
  planTrials,
  referenceOf,
  shardOf,
  type EnginePlan,
  type PlannedRun,
  type TrialRunner,
  type Shard,
} from '@peftjs/cli/trials';
import { writeReport } from '../report/files.js';
import { summarise } from '../report/statistics/summary.js';
import { compareRuns } from '../report/statistics/two-runs.js';
import { renderTable } from '../report/terminal.js';
import {
  foreignNumerics,
  exclusionNotes,
  keepNewestNumerics,
  readResults,
  runFileIn,
  writeRunFile,
  checkpointFolder,
  removeCheckpoints,
  tuningFolder,
  toJson,
  type PooledResults,
  type TrialResult,
} from '@peftjs/cli/results';
import { parseAddress } from '../run/queue/contract.js';
import { assertInstalled } from '../run/queue/installed.js';
import { runTrials, tune, failUntunableTrials } from '../run/run-trials.js';
import { checkPlanFlags, planOf, printPlan, type PlanFlags } from './plan.js';
import {
  assertReference,
  countFromZero,
  defaultWorkers,
  queueOption,
  runStudyFromFlags,
  withRunFlags,
  type RunFlags,
} from './run-flags.js';

/** The flags of `peft-bench run`. */
interface Flags extends RunFlags, OutFlags, CheckpointFlags, PlanFlags {
  readonly workers?: number;
  readonly queue?: string;
  readonly shard?: Shard;
  readonly json?: boolean;
}

/** `peft-bench run`: runs every trial of a study and writes its report. */
export function addRunCommand(program: Command): void {
  withRunFlags(program.command('run').description('compare methods at equal parameter budgets'))
    .option(
      '--workers <n>',
      'trials at a time, one process each (default: one per core, or one for a device); 0 runs them in this process',
      countFromZero,
    )
    .addOption(queueOption('give the trials to the workers on a Redis: redis://host:port'))
    .option('--shard <i/n>', 'run one share of the trials: 0/4, 1/4, 2/4 and 3/4 together run all of them', parseShard)
    .option(...CHECKPOINT_EVERY)
    .option(...FORCE)
    .option('--plan', 'only estimate what the study costs and what it can show, by measuring a few steps')
    .option(
      '--spread <sd>',
      'for --plan: standard deviation over seeds of the difference between two equal arms',
      amount,
    )
    .option(
      '--spread-from <folder>',
      'for --plan: an earlier run to estimate it from (default: --out, if it holds results)',
    )
    .option('--json', 'print one line of JSON per finished trial, or for the plan')
    .action(async (flags: Flags) => {
      process.exitCode = await untilSignal((signal) => run(flags, signal));
    });
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

/** `--plan`: measures a few steps of the study, and prints what it costs and can show. */
async function plan(flags: Flags, signal: AbortSignal): Promise<number> {
  const composed = await runStudyFromFlags(flags);
  const { engine, plan: context } = await planRun(composed);
  const workers = flags.workers ?? defaultWorkers(engine);
  try {
    printPlan(await planOf(context, { workers, source: flags, signal }), flags.json ?? false);
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
  const runner = failUntunableTrials(openRunner(engine));
  const context = { out, runner, tasks, signal };
  try {
    const foreign = await foreignNumerics(out);
    if (foreign !== undefined) process.stderr.write(`${commandName}: ${foreign}\n`);
    await writeRunFile(out, { reference: referenceOf(plan), margin: plan.study.margin, claims: plan.study.claims });
    const tuned = await tune(plan, context);
    if (!tuned) return interrupted(out, ' while tuning learning rates; the finished trials are');
    const all = planTrials(plan, tuned);
    const trials = shard ? shardOf(all, shard) : all;
    const results = await runTrials(out, trials, { ...context, ...(json ? { onResult: printResult } : {}) });
    await removeCheckpointsOfDone(out);
    if (signal.aborted) return interrupted(out, `; ${results.length} of ${trials.length} trials are`);
    if (shard) sayShard(shard, results.length, out);
    else await reportOn(out);
    return results.every(({ status }) => status === 'done') ? 0 : 1;
  } finally {
    await runner.close();
  }
}

/** Makes the runner of the trials, for an engine. */
type OpenRunner = (engine: EnginePlan) => TrialRunner;

/** Decides where the trials run. An unreachable Redis is reported before anything is loaded. */
async function runnerFromFlags({ queue, out, workers, shard, checkpointEvery }: Flags): Promise<OpenRunner> {
  const checkpointing = checkpointEvery === undefined ? {} : { checkpointEvery };
  if (queue === undefined) {
    const checkpoints = checkpointFolder(out);
    if (workers === 0) return () => inProcessRunner({ checkpoints, ...checkpointing });
    return (engine) => localRunner({ workers: workers ?? defaultWorkers(engine), checkpoints, ...checkpointing });
  }
  if (workers !== undefined) {
    throw new ConfigError(
      `--workers is for trials on this machine; with --queue, give it to ${commandName} worker`,
      'workers',
    );
  }
  if (shard !== undefined) {
    throw new ConfigError('--shard and --queue both distribute the trials; leave one out', 'shard');
  }
  const address = parseAddress(queue);
  assertInstalled();
  const { queueRunner } = await import('../run/queue/runner.js');
  const runner = await queueRunner(address, checkpointing);
  return () => runner;
}

function sayShard({ index, of }: Shard, ended: number, out: string): void {
  process.stderr.write(
    `${commandName}: the ${ended} trials of share ${index}/${of} are in ${out}; once all shares are there, run ${commandName} report ${out}\n`,
  );
}

async function removeCheckpointsOfDone(out: string): Promise<void> {
  const results = [...(await readResults(out)), ...(await readResults(tuningFolder(out)))];
  const done = results.filter(({ status }) => status === 'done');
  const ids = new Set(done.map(({ id }) => id));
  await removeCheckpoints(checkpointFolder(out), (id) => ids.has(id));
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
  program
    .command('report')
    .description('regenerate the summary and the reports of a results folder')
    .argument('<folder>', 'the --out folder of a run')
    .option('--reference <arm>', "arm that differences are taken against (default: the run's)")
    .option('--against <folder>', 'another run of the study, to compare with trial by trial')
    .action(reportOn);
}

/**
 * Writes summary.json and the reports of a folder's results, and prints the table. A run ends with this too, so
 * `peft-bench report` gives the same report.
 * @throws DataError if there are no results.
 */
async function reportOn(folder: string, { reference, against }: ReportOptions = {}): Promise<void> {
  const pooled = await existingResults(folder);
  const { results } = pooled;
  if (reference !== undefined) assertReference(reference, [...new Set(results.map(({ arm }) => arm))]);
  const other = against === undefined ? undefined : (await existingResults(against)).results;
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
  const table = renderTable(whole, { columns: process.stderr.isTTY ? process.stderr.columns : 140 });
  process.stderr.write(`\n${[table, ...exclusionNotes(pooled), `report: ${folder}/report.html`].join('\n\n')}\n`);
}

/** The results of a folder that can be pooled. @throws DataError if there are none. */
async function existingResults(folder: string): Promise<PooledResults> {
  const results = await readResults(folder);
  if (results.length > 0) return keepNewestNumerics(results);
  throw new DataError(`${folder} holds no results; create them with ${commandName} run --out ${folder}`, folder);
}

/** The arm to take differences against, where neither the user nor the run names one. */
function firstBudgeted(results: readonly TrialResult[]): string {
  return (results.find(({ budget }) => budget.requested !== null) ?? results[0])?.arm ?? '';
}
