import { DataError } from '@peftjs/core/method';
import { NUMERICS } from '@peftjs/core/runtime';
import { commandName } from '@peftjs/cli';
import {
  describeCircumstances,
  failureOf,
  withProgress,
  type LoadedTask,
  type Progress,
  type Trial,
  type TrialContext,
  type TrialEvents,
  type TrialRunner,
  type TriedRate,
  type TunedArm,
  type WorkerFailure,
} from '@peftjs/cli/trials';
import { printable } from '@peftjs/cli/format';
import {
  canonical,
  writeJson,
  checkpointFolder,
  removeCheckpoint,
  MAX_MESSAGE,
  type TrialResult,
  type StoredResults,
} from '@peftjs/cli/results';
import { chooseRates, planTuning, trialsOf, widened, type Candidates } from './tuning.js';

/** The settings that tuning trials and reported trials share. */
export interface RunContext {
  /** The folder of the run, which holds the checkpoints of both. */
  readonly out: string;
  /** Where the trials run. */
  readonly runner: TrialRunner;
  /** The loaded tasks, by name. */
  readonly tasks: ReadonlyMap<string, LoadedTask>;
  /** Ends the run; running trials are lost. */
  readonly signal: AbortSignal;
  /** Called with every trial that ends, after its file is written. */
  readonly onResult?: (result: TrialResult) => void;
}

/**
 * Runs the trials that have no finished result, and writes the result of each that ends.
 * @returns all results so far, in the order of the trials.
 */
export async function runTrials(
  results: StoredResults,
  trials: readonly Trial[],
  { out, runner, tasks, signal, onResult }: RunContext,
): Promise<TrialResult[]> {
  const isDone = ({ id }: Trial): boolean => {
    const known = results.of(id);
    return known?.status === 'done' && known.versions.numerics === NUMERICS;
  };
  const keep = async (ended: TrialResult): Promise<void> => {
    const result = await results.write(ended);
    if (result.status === 'done') await removeCheckpoint(checkpointFolder(out), result.id);
    onResult?.(result);
  };
  await withProgress(trials.length, async (progress) => {
    for (const { id } of trials.filter(isDone)) progress.emit({ type: 'trial-skipped', id });
    const events = recording(keep, tasks, progress);
    const pending = trials.filter((trial) => !isDone(trial));
    for (const trial of pending.filter(isUntunable)) {
      events.onStart(trial);
      await events.onFailed(trial, { code: 'PEFT_TRAINING', message: whyUntuned(trial.tuning?.tried ?? []) });
    }
    const ready = pending.filter((trial) => !isUntunable(trial));
    await runner.run(ready, events, signal);
  });
  return trials.flatMap(({ id }) => results.of(id) ?? []);
}

/** Shows the events of trials, and records their outcomes. */
function recording(
  keep: (result: TrialResult) => Promise<void>,
  tasks: ReadonlyMap<string, LoadedTask>,
  progress: Progress,
): TrialEvents {
  const started = new Map<string, Date>();
  const keepFailure = async (trial: Trial, failure: WorkerFailure): Promise<void> => {
    const task = tasks.get(trial.task);
    if (task) await keep(failedResult(trial, failure, task, started.get(trial.id) ?? new Date()));
    progress.emit({ type: 'trial-failed', id: trial.id, message: failure.message });
  };
  return {
    onStart({ id, arm, task, seed, budget }) {
      started.set(id, new Date());
      progress.emit({ type: 'trial-start', id, label: { arm, task, seed, budget } });
    },
    onProgress({ id }, step) {
      progress.emit({ type: 'step', id, ...step });
    },
    async onDone(trial, result) {
      try {
        await keep(result);
      } catch (error) {
        if (!(error instanceof DataError)) throw error; // a result that breaks its schema would do so again
        return keepFailure(trial, writable(failureOf(error)));
      }
      progress.emit({ type: 'trial-done', id: trial.id, metrics: result.metrics, seconds: result.time.totalSeconds });
    },
    onFailed: (trial, failure) => keepFailure(trial, writable(failure)),
    onRetry({ id }, { message }) {
      progress.emit({ type: 'trial-again', id, message });
    },
    onNote(line) {
      progress.emit({ type: 'note', line });
    },
  };
}

/** Makes a failure fit for a result file: on one line, without control characters, and of limited length. */
function writable({ code, message }: WorkerFailure): WorkerFailure {
  const line = printable(message).trim();
  return {
    code: printable(code).slice(0, MAX_CODE) || 'PEFT_UNEXPECTED',
    message: line.length <= MAX_MESSAGE ? line : `${line.slice(0, MAX_MESSAGE - 1)}…`,
  };
}

const MAX_CODE = 100;

function failedResult(trial: Trial, error: WorkerFailure, task: LoadedTask, startedAt: Date): TrialResult {
  const rows = { train: 0, selection: 0, dev: 0 };
  const dates = { startedAt, finishedAt: new Date(Math.max(Date.now(), startedAt.getTime())) };
  return { ...describeCircumstances(trial, { task, rows }, dates), methodConfig: {}, status: 'failed', error };
}

/**
 * Tunes the learning rates of a study. Its trials are kept in `tried`, apart from reported ones, and resumed from
 * there. OUT/tuning.json records what was tried.
 * @returns an empty array if the study does not tune; undefined if the run was stopped meanwhile
 */
export async function tune(plan: TrialContext, tried: StoredResults, run: RunContext): Promise<TunedArm[] | undefined> {
  let candidates = planTuning(plan);
  if (candidates.length === 0) return [];
  const results: TrialResult[] = [];
  const tryOut = async (title: string, of: readonly Candidates[]): Promise<TunedArm[]> => {
    const known = new Set(results.map(({ id }) => id));
    const trials = trialsOf(of).filter(({ id }) => !known.has(id));
    process.stderr.write(`${commandName}: ${title}: ${trials.length} trials\n`);
    results.push(...(await runTrials(tried, trials, run)));
    return run.signal.aborted ? [] : chooseRates(of, results);
  };
  let tuned = await tryOut('tuning the learning rate on the selection rows', candidates);
  for (let left = plan.study.tuning?.extensions ?? 0; left > 0 && !run.signal.aborted; left--) {
    const wider = widened(plan, candidates, tuned);
    if (!wider) break;
    candidates = wider;
    tuned = await tryOut('a best learning rate is at the edge of its grid, so every arm gets one more', candidates);
  }
  if (run.signal.aborted) return undefined;
  await writeJson(`${run.out}/tuning.json`, { arms: tuned });
  return tuned;
}

/** Whether tuning chose no learning rate for a trial: it fails without a run. */
function isUntunable({ tuning }: Trial): boolean {
  return tuning?.chosen === null;
}

/**
 * Leaves out trials that failed because tuning chose no rate, once a rerun chose one and finished them: an id contains
 * the rate, so the new result did not replace the old one.
 */
export function withoutRetuned(results: readonly TrialResult[]): TrialResult[] {
  const placeOf = ({ model, task, arm, budget, seed, protocol }: TrialResult): string => {
    // A failed trial has no rows, and its protocol may have the rate that tuning replaced.
    const { data: _data, selectedOn: _rows, learningRate: _rate, ...settings } = protocol;
    return canonical([model, task, arm, budget.spec, seed, settings]);
  };
  const replaces = (failed: TrialResult, other: TrialResult): boolean =>
    other.status === 'done' &&
    placeOf(other) === placeOf(failed) &&
    Date.parse(other.finishedAt) > Date.parse(failed.finishedAt);
  return results.filter(
    (result) =>
      result.status === 'done' || result.tuning?.chosen !== null || !results.some((other) => replaces(result, other)),
  );
}

function whyUntuned(tried: readonly TriedRate[]): string {
  const failed = tried.filter(({ score }) => score === null);
  const rates = failed.map(({ learningRate }) => learningRate).join(', ');
  const what =
    failed.length === tried.length
      ? `all learning rates (${rates}) failed`
      : `no learning rate was chosen, since a process died that tried one (${rates}); rerun the command to try again`;
  const errors = new Set(failed.map(({ error = 'no error was recorded' }) => error));
  return `${what}: ${[...errors].join('; ')}`;
}
