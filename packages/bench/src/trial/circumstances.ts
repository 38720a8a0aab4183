import type { Stages } from '../plan/stages.js';
import type { Trial, TrialProtocol } from '../plan/trial.js';
import { RESULT_FORMAT } from '../results/migrate.js';
import type { FailedTrial, Protocol } from '../results/schema.js';
import type { PreparedTrial } from './prepare.js';

/** What is known of a trial's rows; of one that failed not what they lost. */
type Described = Pick<PreparedTrial, 'task' | 'rows'> & Partial<Pick<PreparedTrial, 'losses'>>;

type Circumstances = Omit<FailedTrial, 'id' | 'methodConfig' | 'budget' | 'status' | 'error'>;

/** What is known of a trial apart from how it went. */
export function describeCircumstances(
  trial: Trial,
  prepared: Described,
  { startedAt, finishedAt }: { readonly startedAt: Date; readonly finishedAt: Date },
): Circumstances {
  const { arm, method, model, task, seed, judgedOn, tuning, engine, versions, settings, protocol } = trial;
  return {
    format: RESULT_FORMAT,
    arm,
    method,
    model,
    task,
    seed,
    judgedOn,
    tuning: tuning && { tried: [...tuning.tried], chosen: tuning.chosen },
    engine,
    versions: { ...versions },
    learningRate: settings.learningRate ?? protocol.learningRate,
    protocol: protocolOf(trial, prepared),
    startedAt: startedAt.toISOString(),
    finishedAt: finishedAt.toISOString(),
  };
}

/** `epochs` are those of the first stage. */
function inStages(protocol: TrialProtocol, { epochs, ...stages }: Stages): Pick<Protocol, 'epochs' | 'stages'> {
  return { epochs: epochs ?? protocol.epochs, stages };
}

function protocolOf({ protocol, settings: { head, stages } }: Trial, { task, rows, losses }: Described): Protocol {
  const percent = Math.round(100 * protocol.finalRatio);
  return {
    ...protocol,
    head,
    ...(stages && inStages(protocol, stages)),
    selectedOn: `${rows.selection} rows set aside from the training file, among ${protocol.evaluations} checkpoints of the last ${percent} % of the ${stages ? "first stage's " : ''}steps`,
    data: { source: task.source, licence: task.licence, rows, ...losses },
  };
}
