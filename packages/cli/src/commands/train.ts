import { basename, dirname, join } from 'node:path';
import { InvalidArgumentError, type Command } from 'commander';
import { activeAdapter, countParameters, describeParameters, savePretrained, type PeftModel } from '@peftjs/core';
import { ConfigError, TrainingError } from '@peftjs/core/method';
import type { SaveOptions } from '@peftjs/core/model';
import { commandName } from '../registry/command-name.js';
import { lossNames, type LossName } from '../registry/losses.js';
import { resolveMethod } from '../registry/methods.js';
import type { LoadedTask } from '../registry/tasks.js';
import { planRun } from '../run/plan-run.js';
import { trialPreparer } from '../run/prepare.js';
import { counted, formatCount, quoted } from '../format.js';
import { sizingText } from '../results/sizing-table.js';
import { checkpointOwners, removeCheckpoints, trainingFolders, unfinishedFolder } from '../results/folder.js';
import { FEW_ROWS, type DoneTrial } from '../results/schema.js';
import { writeSizing } from '../results/files.js';
import { assertAsPlanned } from '../run/as-planned.js';
import { assertCalibratable, calibrated } from '../run/confidence.js';
import { trialCheckpoints, type TrialCheckpoints } from '../run/recorder.js';
import { withProgress } from '../run/progress.js';
import { runTrial, type RunTrialOptions } from '../run/trial.js';
import { budgetsOf, MAX_SEEDS, type Study } from '../study/study.js';
import { planTrials, type Trial } from '../study/trials.js';
import { reportData, scoreLine, type DataReport } from './data-lines.js';
import { exampleArguments } from './example.js';
import {
  choice,
  count,
  DEFAULT_PRESET,
  listPresets,
  MOST_USED,
  studyFromFlags,
  withExample,
  withStudyFlags,
  type StudyFlags,
} from './flags.js';
import {
  assertInputs,
  CHECKPOINT_EVERY,
  checkOut,
  inClaimedFolder,
  withOutFlags,
  type CheckpointFlags,
  type OutFlags,
} from './folders.js';
import { INTERRUPTED, untilSignal } from '../run/processes.js';

/** The flags of `peftjs train`. */
interface TrainFlags extends StudyFlags, OutFlags, CheckpointFlags {
  readonly seed: number;
  readonly loss?: LossName;
  readonly calibrate?: boolean;
}

/** `peftjs train`: runs one trial and saves its adapter in PEFT format. */
export function addTrainCommand(program: Command): void {
  const command = withStudyFlags(
    program.command('train').description('train one adapter and save it in PEFT format'),
    true,
  );
  command.options.find(({ long }) => long === '--method')?.makeOptionMandatory();
  command.optionsGroup('Training:');
  command.addOption(choice('--loss <name>', 'loss to minimise (default: the one that suits the rows)', lossNames));
  command.option('--seed <n>', `seed of the initial values and the order of rows, up to ${MAX_SEEDS}`, seedIn, 1);
  command.option(
    '--calibrate',
    'fit the temperature of the scores on the selection rows, so that they are probabilities',
  );
  listPresets(withExample(command, 'train --train reviews.csv --method sora --budget 50000 --out my-adapter'));
  command.option(...CHECKPOINT_EVERY).optionsGroup(MOST_USED);
  withOutFlags(command, 'folder for the adapter').action(async (flags: TrainFlags) => {
    process.exitCode = await untilSignal((signal) => trainOne(flags, signal));
  });
}

/** Parses a seed. @throws InvalidArgumentError for a seed that no study has. */
function seedIn(text: string): number {
  const seed = count(text);
  if (seed <= MAX_SEEDS) return seed;
  throw new InvalidArgumentError(`Expected an integer from 1 to ${MAX_SEEDS}.`);
}

/** The most rows that are held out of a training file to report on: more cost time, and hardly sharpen the score. */
const MOST_HELD_OUT = 5000;

/** Trains an adapter. @returns the exit code: 0 if it is saved, 130 if interrupted, 1 if it cannot be written. */
async function trainOne(flags: TrainFlags, signal: AbortSignal): Promise<number> {
  const { out, seed, loss, force, checkpointEvery } = flags;
  for (const flag of ['method', 'budget', 'task'] as const) {
    if (flags[flag]?.includes(',')) throw new ConfigError(`train expects one --${flag}, got '${flags[flag]}'`, flag);
  }
  assertInputs(flags);
  checkOut(flags, 'adapter');
  const composed = await studyFromFlags(flags, { seeds: seed, ...(loss !== undefined && { protocol: { loss } }) });
  await assertBudgeted(composed.study, flags);
  const { plan, tasks } = await planRun(composed, MOST_HELD_OUT);
  const trial = onlyTrial(
    planTrials(plan).filter((each) => each.seed === seed),
    flags,
  );
  const data = await reportData(tasks.get(trial.task) as LoadedTask, trial.protocol);
  const rerun = `rerun the same command${force ? ' without --force' : ''}`;
  return inClaimedFolder(out, { written: trainingFolders(out), rerun }, async () => {
    checkOut(flags, 'adapter'); // again: until the lock was held, another training may have ended here
    await assertOwnTraining(flags, trial);
    process.stderr.write(`${data.lines.join('\n')}\n`);
    const folder = unfinishedFolder(out);
    const checkpoints = trialCheckpoints(trial.id, { folder, areRequired: true, every: checkpointEvery });
    const begun = await placeOf(checkpoints);
    if (begun !== undefined) process.stderr.write(`Resuming at ${begun}.\n`);
    try {
      await trainAndSave(flags, trial, data, { checkpoints, signal });
      return 0;
    } catch (error) {
      const failsAgain = error instanceof TrainingError || error instanceof ConfigError;
      if (failsAgain) await removeCheckpoints(folder);
      if (!signal.aborted || error !== signal.reason) throw error;
      const at = await placeOf(checkpoints);
      const saved = at === undefined ? 'before the first step: nothing is saved' : `at ${at}; ${rerun} to resume`;
      process.stderr.write(`Stopped ${saved}.\n`);
      return INTERRUPTED;
    }
  });
}

/** @throws ConfigError for a study of several tasks or budgets; of the default one, the first task is an example. */
function onlyTrial(trials: readonly Trial[], { config, data, preset }: TrainFlags): Trial {
  const [first] = trials as [Trial, ...Trial[]]; // the flags decide the number of seeds
  const isExample = preset === DEFAULT_PRESET && config === undefined && data === undefined;
  const rest = isExample ? trials.filter(({ task }) => task === first.task) : trials;
  if (rest.length === 1) return first;
  for (const [flag, values] of [
    ['task', new Set(rest.map(({ task }) => task))],
    ['budget', new Set(rest.map(({ budget }) => String(budget)))],
  ] as const) {
    if (values.size === 1) continue;
    throw new ConfigError(`train expects one --${flag}, and the study has ${[...values].join(', ')}; choose one`, flag);
  }
  return first;
}

/** @throws ConfigError for a budget that the method does not take. */
async function assertBudgeted(study: Study, { budget }: TrainFlags): Promise<void> {
  for (const [arm, settings] of Object.entries(study.methods)) {
    const { method } = await resolveMethod(settings.method);
    if (budget === undefined || (method.fitBudget && !budgetsOf(settings, study).includes(null))) continue;
    throw new ConfigError(
      `--budget ${budget}: ${arm} takes no budget; leave it out, or choose another method`,
      'budget',
    );
  }
}

/**
 * Removes an unfinished training with `--force`.
 * @throws ConfigError if the folder holds one with other settings.
 */
async function assertOwnTraining({ out, force }: TrainFlags, { id }: Trial): Promise<void> {
  if (force) return removeCheckpoints(unfinishedFolder(out));
  const other = checkpointOwners(unfinishedFolder(out)).find((owner) => owner !== id);
  if (other === undefined) return;
  throw new ConfigError(
    `--out ${out} holds an unfinished training with other settings (${other}); rerun its command to finish it, name another folder, or add --force to start afresh`,
    'out',
  );
}

/** Says where the last checkpoint is: `step 212 of 540`; undefined if there is none. */
async function placeOf(checkpoints: TrialCheckpoints): Promise<string | undefined> {
  const { record } = (await checkpoints.read()) ?? {};
  return record && `step ${record.rows.at(-1)?.step ?? 0} of ${record.totalSteps}`;
}

/** Trains an adapter, saves it, and says how to use it. */
async function trainAndSave(
  flags: TrainFlags,
  trial: Trial,
  { mostFrequent }: DataReport,
  options: Required<Pick<RunTrialOptions, 'checkpoints' | 'signal'>>,
): Promise<void> {
  const { id, arm, task, seed, budget } = trial;
  const lines = await withProgress(1, async (progress) => {
    progress.emit({ type: 'trial-start', id, label: { arm, task, seed, budget } });
    const prepared = await trialPreparer()(trial);
    if (flags.calibrate) assertCalibratable(prepared);
    assertAsPlanned(trial, prepared);
    const { result, peft } = await runTrial(trial, prepared, {
      ...options,
      onAttach: (model) => {
        assertTrained(model, trial);
      },
      onCompile(seconds) {
        progress.emit({ type: 'compiling', id, seconds });
      },
      onProgress(step) {
        progress.emit({ type: 'step', id, ...step });
      },
    });
    const scores = flags.calibrate ? [await calibrated(trial, prepared, peft, result.metrics)] : [];
    await savePretrained(peft, flags.out, { card: cardFacts(result) });
    await writeSizing(flags.out, result.sizing);
    await removeCheckpoints(unfinishedFolder(flags.out));
    progress.emit({ type: 'trial-done', id, metrics: result.metrics, seconds: result.time.totalSeconds });
    return [
      ...(result.sizing ? ['', sizingText(result.sizing)] : []),
      scoreLine(prepared.rows.dev, mostFrequent),
      describeParameters(peft),
      ...scores,
      ...closingLines({
        result,
        head: countParameters(peft).saved,
        example: exampleArguments(prepared.task),
        isExportable: activeAdapter(peft).method.capabilities.mergeable || !('imagesIn' in prepared.task),
        flags,
      }),
    ];
  });
  process.stderr.write(`${lines.join('\n')}\n`);
}

/** What the model card says of a training. */
function cardFacts({ task, seed, learningRate, protocol, metrics }: DoneTrial): SaveOptions['card'] & object {
  const { epochs, batchSize, data } = protocol;
  const { train, dev } = data.rows;
  const training = {
    'training rows': train ?? 0,
    seed,
    epochs,
    'batch size': batchSize,
    'learning rate': learningRate,
  };
  return { data: task, training, metrics, ...(dev !== undefined && { heldOutRows: dev }) };
}

/** @throws ConfigError for a model of which nothing is trained. */
function assertTrained(peft: PeftModel, { arm, model }: Trial): void {
  const { trainable, saved } = countParameters(peft);
  if (trainable + saved > 0) return;
  throw new ConfigError(
    `${arm} trains nothing of ${model}, because its head is frozen: there is nothing to save`,
    'method',
  );
}

/** What the last lines of `train` are about. */
interface Ended {
  /** The result of the trial. */
  readonly result: Pick<DoneTrial, 'parameters' | 'budget' | 'history' | 'protocol'>;
  /** The number of parameters of the head that were trained. */
  readonly head: number;
  /** Arguments of `predict` that try it. */
  readonly example: string;
  /** Whether `export` writes it as ONNX. */
  readonly isExportable: boolean;
  /** The flags of the command. */
  readonly flags: Pick<TrainFlags, 'out' | 'epochs' | 'train'>;
}

/** Fewer steps than this rarely change a model much. */
const FEW_STEPS = 100;

/** Returns lines on what was stored, on very short training or evaluation, and commands that use the adapter. */
export function closingLines({ result, head, example, isExportable, flags }: Ended): string[] {
  const { out, epochs: asked } = flags;
  const { parameters, budget, history, protocol } = result;
  const { requested, met } = budget;
  const asBudgeted = requested === null ? '' : `, for a budget of ${formatCount(requested)}${met ? '' : ' (not met)'}`;
  const ofHead = head === 0 ? '' : `, and ${formatCount(head)} in the head`;
  const steps = history.at(-1)?.step ?? 0;
  const { epochs } = protocol;
  const { dev: rows = Infinity } = protocol.data.rows;
  const more = flags.train === undefined ? '' : ', or evaluate on more rows with --dev'; // other data refuse it
  const enough = Math.ceil((epochs * FEW_STEPS) / steps);
  return [
    `stored params: ${formatCount(parameters.stored)} in the adapter${asBudgeted}${ofHead}`,
    ...(asked === undefined && steps > 0 && steps < FEW_STEPS
      ? [`trained for only ${steps} steps (--epochs ${epochs}); if the score is low, try --epochs ${enough}`]
      : []),
    ...(rows < FEW_ROWS ? [`the score rests on only ${counted(rows, 'row')}: do not rely on it${more}`] : []),
    `saved to ${out}; to use it: npx ${commandName} predict ${quoted(out)} ${example}`,
    ...(isExportable
      ? [
          `for transformers.js: npx ${commandName} export ${quoted(out)} --format onnx --out ${quoted(join(dirname(out), `${basename(out)}-onnx`))}`,
        ]
      : []),
    `for your own program, in JavaScript or Python: see ${join(out, 'README.md')}; to start one with a server: npm create peftjs`,
  ];
}
