import { InvalidArgumentError, type Command } from 'commander';
import { countParameters, describeParameters, savePretrained } from '@peftjs/core';
import { ConfigError } from '@peftjs/core/method';
import { commandName } from '../registry/command-name.js';
import { lossNames, type LossName } from '../registry/losses.js';
import type { LoadedTask } from '../registry/tasks.js';
import { planRun } from '../run/plan-run.js';
import { trialPreparer } from '../run/prepare.js';
import { formatCount } from '../report/format.js';
import { sizingText } from '../report/stages.js';
import type { DoneTrial } from '../results/schema.js';
import { writeSizing } from '../results/sizing-file.js';
import { openProgress } from '../run/progress.js';
import { runTrial } from '../run/trial.js';
import { MAX_SEEDS } from '../study/study.js';
import { planTrials } from '../study/trials.js';
import { choice, count, studyFromFlags, withStudyFlags, type StudyFlags } from './flags.js';
import { assertInputs } from './inputs.js';
import { checkOut, withOutFlags, type OutFlags } from './out-folder.js';

/** The flags of `peft-bench train`. */
interface TrainFlags extends StudyFlags, OutFlags {
  readonly seed: number;
  readonly loss?: LossName;
}

/** `peft-bench train`: runs one trial and saves its adapter in PEFT format. */
export function addTrainCommand(program: Command): void {
  const command = withStudyFlags(program.command('train').description('train one adapter and save it in PEFT format'));
  command.options.find(({ long }) => long === '--method')?.makeOptionMandatory();
  command.addOption(choice('--loss <name>', 'loss to minimise (default: the one that suits the rows)', lossNames));
  command.option('--seed <n>', `seed of the initial values and the order of rows, up to ${MAX_SEEDS}`, seedIn, 1);
  withOutFlags(command, 'folder for the adapter').action(trainOne);
}

/** Parses a seed. @throws InvalidArgumentError for a seed that no study has. */
function seedIn(text: string): number {
  const seed = count(text);
  if (seed <= MAX_SEEDS) return seed;
  throw new InvalidArgumentError(`Expected an integer from 1 to ${MAX_SEEDS}.`);
}

async function trainOne(flags: TrainFlags): Promise<void> {
  for (const flag of ['method', 'budget', 'task'] as const) {
    if (flags[flag]?.includes(',')) throw new ConfigError(`train expects one --${flag}, got '${flags[flag]}'`, flag);
  }
  assertInputs(flags);
  checkOut(flags, 'adapter');
  const composed = await studyFromFlags(flags, {
    seeds: flags.seed,
    ...(flags.loss !== undefined && { protocol: { loss: flags.loss } }),
  });
  const { plan } = await planRun(composed);
  const trial = planTrials(plan).find(({ seed }) => seed === flags.seed);
  if (!trial) throw new ConfigError(`there is no trial with seed ${flags.seed}`, 'seed');
  const progress = openProgress(1);
  const { id, arm, task, seed, budget } = trial;
  progress.emit({ type: 'trial-start', id, label: { arm, task, seed, budget }, totalSteps: 0 });
  try {
    const prepared = await trialPreparer()(trial);
    const { result, peft } = await runTrial(trial, prepared, {
      onProgress(step) {
        progress.emit({ type: 'step', id, ...step });
      },
    });
    const { trainable, saved } = countParameters(peft);
    if (trainable + saved === 0) {
      throw new ConfigError(
        `${arm} trains nothing of ${trial.model}, because its head is frozen: there is nothing to save`,
        'method',
      );
    }
    await savePretrained(peft, flags.out);
    await writeSizing(flags.out, result.sizing);
    progress.emit({ type: 'trial-done', id, metrics: result.metrics, seconds: result.time.totalSeconds });
    progress.close();
    const size = result.sizing ? `\n${sizingText(result.sizing)}\n` : '';
    const lines = [
      describeParameters(peft),
      ...closingLines({ result, head: saved, hasPairs: isOfPairs(prepared.task), flags }),
    ];
    process.stderr.write(`${size}${lines.join('\n')}\n`);
  } finally {
    progress.close();
  }
}

/** What the last lines of `train` are about. */
interface Ended {
  /** The result of the trial. */
  readonly result: Pick<DoneTrial, 'parameters' | 'budget' | 'history' | 'protocol'>;
  /** The number of parameters of the head that were trained. */
  readonly head: number;
  /** Whether each row has two texts that are read together. */
  readonly hasPairs: boolean;
  /** The flags of the command. */
  readonly flags: Pick<TrainFlags, 'out' | 'epochs'>;
}

function isOfPairs({ train }: LoadedTask): boolean {
  const [row] = train.rows;
  return row !== undefined && 'pair' in row;
}

/** Fewer steps than this rarely change a model much. */
const FEW_STEPS = 100;

/** What `predict` takes for pairs. */
const PAIRS = '--pairs --file FILE, with two texts per line, separated by a tab';

/** Returns the lines that say what was stored, whether the training was very short, and how to use the adapter. */
export function closingLines({ result, head, hasPairs, flags: { out, epochs: asked } }: Ended): string[] {
  const { parameters, budget, history, protocol } = result;
  const { requested, met } = budget;
  const asBudgeted = requested === null ? '' : `, for a budget of ${formatCount(requested)}${met ? '' : ' (not met)'}`;
  const ofHead = head === 0 ? '' : `, and ${formatCount(head)} in the head`;
  const steps = history.at(-1)?.step ?? 0;
  const { epochs } = protocol;
  const enough = Math.ceil((epochs * FEW_STEPS) / steps);
  return [
    `stored params: ${formatCount(parameters.stored)} in the adapter${asBudgeted}${ofHead}`,
    ...(asked === undefined && steps > 0 && steps < FEW_STEPS
      ? [`trained for only ${steps} steps (--epochs ${epochs}); if the score is low, try --epochs ${enough}`]
      : []),
    `saved to ${out}; to use it: npx ${commandName} predict ${out} ${hasPairs ? PAIRS : '"some text"'}`,
  ];
}
