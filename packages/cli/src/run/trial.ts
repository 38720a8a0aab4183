import { mean } from 'simple-statistics';
import {
  activeAdapter,
  attach,
  calibrate,
  countParameters,
  train,
  withAdapter,
  withReference,
  type Executor,
  type PeftModel,
} from '@peftjs/core';
import { TrainingError, type ConfiguredMethod, type MatchOn } from '@peftjs/core/method';
import { optimizerStateBytes } from '@peftjs/core/model';
import {
  defaultLoss,
  evaluationOutputs,
  releaseRuntimes,
  type Checkpoint,
  type EvaluateOptions,
  type Loss,
  type TrainResult,
} from '@peftjs/core/runtime';
import { openExecutor } from '../registry/executors.js';
import { lossNamed } from '../registry/losses.js';
import { isHeadOnly, resolveMethod } from '../registry/methods.js';
import { sha256 } from '../results/json.js';
import {
  RESULT_FORMAT,
  storablePredictions,
  type DoneTrial,
  type FailedTrial,
  type Protocol,
} from '../results/schema.js';
import { fitConfig, parseBudget } from '../study/budgets.js';
import type { Stages } from '../study/stages.js';
import { optimizerOf, type Trial, type TrialProtocol } from '../study/trials.js';
import { assertAsPlanned } from './as-planned.js';
import {
  noCheckpoints,
  resumed,
  trialCheckpoints,
  type TrialRecording,
  type TrialCheckpoints,
  trialRecorder,
  type TrialProgress,
} from './recorder.js';
import type { PreparedTrial } from './prepare.js';
import { processorName } from './processor.js';
import type { TrialRequest } from './runner.js';
import { heldCheckpoint, trainInStages, type TrainedInStages, type TrainedAtOnce } from './train-in-stages.js';

/** The settings of `runTrial`. */
export interface RunTrialOptions {
  /** Called after every step. */
  readonly onProgress?: (progress: TrialProgress) => void;
  /** Called with the attached model before anything is computed. */
  readonly onAttach?: (peft: PeftModel) => void;
  /** Called before the first step is compiled, with the seconds that this will take. */
  readonly onCompile?: (seconds: number) => void;
  /** The checkpoints to write and to resume from. Default none. */
  readonly checkpoints?: TrialCheckpoints;
  /** Stops the trial between two steps; `runTrial` then throws. */
  readonly signal?: AbortSignal;
}

/** A finished trial: its result, and the model with the trained adapter. */
interface FinishedTrial {
  readonly result: DoneTrial;
  readonly peft: PeftModel;
}

/** Trains and evaluates one trial. Writes no files except checkpoints. @throws PeftError if it fails. */
export async function runTrial(
  trial: Trial,
  prepared: PreparedTrial,
  { onProgress, onAttach, onCompile, checkpoints = noCheckpoints, signal }: RunTrialOptions = {},
): Promise<FinishedTrial> {
  const executor = await openExecutor(trial.engine);
  try {
    const recorder = trialRecorder(trial, prepared, onProgress);
    const { method } = await resolveMethod(trial.method);
    const { config, requested } = fitConfig(method, prepared.model, trial);
    const peft = await attachCalibrated(trial, prepared, { method, config }, executor);
    const { trainable: trainableAtStart, saved: trainedHead, base } = countParameters(peft);
    onAttach?.(peft);
    const scale = scaleOf(activeAdapter(peft));
    const optimizerBytes = optimizerStateBytes(activeAdapter(peft));
    if (trial.engine.executor === 'compiled') onCompile?.(compileSeconds(peft));
    const trained: Trained =
      trainableAtStart + trainedHead === 0 && isHeadOnly(method)
        ? untrained(peft)
        : await resumed(trial, { checkpoints, recorder, signal }, (from) =>
            trainTrial(trial, prepared, peft, executor, { recorder, checkpoints, from }, signal),
          );
    const { selected, last, stages, sizing } = trained;
    const evaluating = { executor, onProgress: recorder.onEvaluating };
    const judged = await judge(trial, peft, prepared, evaluating, trained);
    const { primaryMetric: metric, lowerIsBetter } = prepared.dev;
    const { storedParameters: stored } = selected;
    const result: DoneTrial = {
      ...describeCircumstances(trial, prepared, recorder.dates()),
      methodConfig: { ...activeAdapter(peft).config },
      budget: budgetOf(trial, requested, { stored, trained: trainableAtStart }),
      parameters: { trainableAtStart, storedMean: trained.meanParameters, stored, base, optimizerBytes },
      ranks: { ...selected.ranks },
      ...(scale !== undefined && { scale }),
      metrics: judged.selected,
      last: { metrics: judged.last, ranks: { ...last.ranks }, parameters: last.storedParameters },
      selection: { split: 'selection', step: selected.step, metric, ...(lowerIsBetter && { lowerIsBetter }) },
      ...recorder.measures(trained.compileMs),
      ...(stages && { stages }),
      ...(sizing && {
        sizing: { ...sizing, stages: sizing.stages.map((each) => ({ ...each, ranks: { ...each.ranks } })) },
      }),
      ...(judged.rows && { rows: judged.rows }),
      processor: processorName(),
      status: 'done',
    };
    return { result, peft };
  } finally {
    await releaseRuntimes(executor);
  }
}

/**
 * Seconds until a step is compiled, for each module of the model and each of the adapter: a graph has about 12 nodes
 * for either. Measured on SmolLM2-135M with LoRA on all its linear modules (6,000 nodes, 5 s) and on MiniLM with LoRA
 * on queries and values (0.6 s), two cores of an Intel Xeon.
 */
const COMPILE_SECONDS = 0.01;

function compileSeconds(peft: PeftModel): number {
  return COMPILE_SECONDS * (peft.model.sites.length + Object.keys(activeAdapter(peft).layers).length);
}

/**
 * Attaches the untrained adapter. If its initial values depend on data, they are computed from the first training
 * batches.
 */
async function attachCalibrated(
  { seed, protocol, settings: { head } }: Trial,
  { model, train }: PreparedTrial,
  configured: ConfiguredMethod,
  executor: Executor,
): Promise<PeftModel> {
  const options = { seed, trainHead: head === 'trained' };
  if (!configured.method.calibration?.(configured.config)) return attach(model, configured, options);
  const calibration = await calibrate(model, configured, train, { executor, seed, ...lossOf(protocol) });
  return attach(model, configured, { ...options, calibration });
}

/** The factor of the change, averaged over the modules whose layers have one; undefined if none has. */
function scaleOf({ layers }: Pick<Checkpoint, 'layers'>): number | undefined {
  const factors = Object.values(layers).flatMap(({ scaling }) => scaling ?? []);
  return factors.length === 0 ? undefined : mean(factors);
}

/** The result of training only a head that is frozen, such as a language model's: the original model, as a baseline. */
function untrained(peft: PeftModel): TrainedAtOnce {
  const original = heldCheckpoint(peft, 0);
  return { totalSteps: 0, selected: original, last: original, meanParameters: 0, compileMs: 0 };
}

/** The result of training a trial, with its stages if it has some. */
type Trained = TrainedAtOnce & Partial<TrainedInStages> & Pick<TrainResult, 'sizing'>;

/** Trains a trial, with the sparsifying schedule if its arm has stages. */
async function trainTrial(
  trial: Trial,
  prepared: PreparedTrial,
  peft: PeftModel,
  executor: Executor,
  recording: TrialRecording,
  signal?: AbortSignal,
): Promise<Trained> {
  const { epochs, evaluations, learningRate, schedule, warmupRatio, finalRatio, clipNorm } = trial.protocol;
  const { dropout, gradientCheckpointing, earlyStoppingPatience: patience } = trial.protocol;
  const { stages, ...settings } = trial.settings;
  const shared = {
    ...lossOf(trial.protocol),
    schedule,
    warmupRatio,
    finalRatio,
    optimizer: optimizerOf(trial.protocol),
    clipNorm,
    ...(dropout !== undefined && { dropout }),
    ...(gradientCheckpointing !== undefined && { gradientCheckpointing }),
    learningRate: settings.learningRate ?? learningRate,
    learningRates: { head: learningRate, ...settings.learningRates }, // the head's rate is the same for all methods
    executor,
    ...(signal && { signal }),
  };
  if (stages) {
    const training = { ...shared, epochs: stages.epochs ?? epochs, evaluations };
    return trainInStages(peft, prepared, stages, training, recording);
  }
  const { recorder, checkpoints, from } = recording;
  const budget = trial.budget === null ? undefined : parseBudget(trial.budget);
  const choosing = budget?.kind === 'auto' && {
    margin: budget.margin,
    trainSubset: await prepared.trainSubset(MEMORIZATION_ROWS),
  };
  return train(peft, prepared.train, {
    ...shared,
    epochs,
    selection: { data: prepared.selection, evaluations, ...choosing },
    ...(patience != null && { earlyStopping: { patience } }),
    onStep: recorder.onStep,
    onEvaluation: recorder.onEvaluation,
    onEvaluating: recorder.onEvaluating,
    saveEvery: checkpoints.isDue,
    onSnapshot: (training) => checkpoints.write({ training, record: recorder.stored() }),
    ...(from && { resume: from.training }),
  });
}

/** Training rows that memorization is measured on if an adapter chooses its size. */
const MEMORIZATION_ROWS = 300;

/** The loss that a protocol names, if any. */
function lossOf({ loss }: TrialProtocol): { readonly loss?: Loss } {
  return loss === undefined ? {} : { loss: lossNamed(loss) };
}

/**
 * Computes the reported metrics of the selected and the last checkpoint, named `<metric>.<set>` for additional sets,
 * and the selected one's prediction for every reported row. A tuning trial is judged on the selection rows, since
 * reported rows must not influence any choice.
 * @throws TrainingError for a metric that is not finite.
 */
async function judge(
  { judgedOn, protocol }: Trial,
  peft: PeftModel,
  prepared: PreparedTrial,
  evaluating: EvaluateOptions,
  { selected, last }: TrainedAtOnce,
) {
  const { dev: given, extraDevSets } = judgedOn === 'dev' ? prepared : { dev: prepared.selection, extraDevSets: {} };
  const { loss = defaultLoss(prepared.train.kind) } = lossOf(protocol);
  const dev = loss.needsReference && given.withReference ? await withReference(given, peft, evaluating) : given;
  const judged = async ({ layers, values }: Checkpoint) => {
    const model = withAdapter(peft, { layers, values });
    const outputs = await evaluationOutputs(model, dev, evaluating);
    const metrics = dev.score(outputs);
    for (const [set, data] of Object.entries(extraDevSets)) {
      const own = Object.entries(data.score(await evaluationOutputs(model, data, evaluating)));
      for (const [name, value] of own) metrics[`${name}.${set}`] = value;
    }
    const [broken] = Object.entries(metrics).filter(([, value]) => !Number.isFinite(value));
    if (!broken) return { metrics, outputs };
    throw new TrainingError(`${broken[0]} on the reported rows is ${broken[1]}; lower the learning rate`, broken[0]);
  };
  const { metrics, outputs } = await judged(selected);
  return {
    selected: metrics,
    last: selected.step === last.step ? metrics : (await judged(last)).metrics,
    rows: storablePredictions(dev.predictions?.(outputs)),
  };
}

/** Says whether the adapter met its budget, in the parameters that the protocol counts. */
function budgetOf(
  { budget, settings: { tolerance }, protocol: { matchOn: matchedOn } }: Trial,
  requested: number | null,
  parameters: Readonly<Record<MatchOn, number>>,
): DoneTrial['budget'] {
  const met = requested !== null && Math.abs(parameters[matchedOn] - requested) <= tolerance * requested;
  return { requested, spec: budget ?? 'none', matchedOn, tolerance, met };
}

/** The task and rows of a trial; for a failed trial, without the counts of cut rows. */
type Described = Pick<PreparedTrial, 'task' | 'rows'> & Partial<Pick<PreparedTrial, 'losses'>>;

type Circumstances = Omit<FailedTrial, 'methodConfig' | 'status' | 'error'>;

/** Describes a trial's settings and circumstances, independent of its outcome: its budget counts as not met. */
export function describeCircumstances(
  trial: Trial,
  prepared: Described,
  { startedAt, finishedAt }: { readonly startedAt: Date; readonly finishedAt: Date },
): Circumstances {
  const { settings, protocol, fingerprints, data: _paths, ...named } = trial;
  return {
    ...named,
    format: RESULT_FORMAT,
    budget: budgetOf(trial, null, { stored: 0, trained: 0 }),
    versions: { ...named.versions },
    content: sha256(JSON.stringify([fingerprints.model, fingerprints.data])).slice(0, 16),
    learningRate: settings.learningRate ?? protocol.learningRate,
    ...(Object.keys(settings.learningRates).length > 0 && { learningRates: settings.learningRates }),
    protocol: protocolOf(trial, prepared),
    startedAt: startedAt.toISOString(),
    finishedAt: finishedAt.toISOString(),
  };
}

/** The protocol of a trial in stages; `epochs` are those of the first stage. */
function inStages(protocol: TrialProtocol, { epochs, ...stages }: Stages): Pick<Protocol, 'epochs' | 'stages'> {
  return { epochs: epochs ?? protocol.epochs, stages };
}

function protocolOf({ protocol, settings: { head, stages } }: Trial, { task, rows, losses }: Described): Protocol {
  const percent = Math.round(100 * protocol.finalRatio);
  const { gradientCheckpointing: _memory, ...stated } = protocol; // it changes no result
  const { earlyStoppingPatience: patience } = protocol;
  const stops = patience == null ? '' : `, or of all epochs if ${patience} in a row do not improve on the best`;
  const source =
    task.selectionFrom === 'dev'
      ? 'of the development file, which are not reported'
      : 'set aside from the training file';
  return {
    ...stated,
    head,
    ...(stages && inStages(protocol, stages)),
    selectedOn: `${rows.selection} rows ${source}, among ${protocol.evaluations} checkpoints of the last ${percent} % of the ${stages ? "first stage's " : ''}steps${stops}`,
    data: { source: task.source, licence: task.licence, rows, ...losses },
  };
}

/**
 * Runs a prepared trial in this process, with the checkpoints that the request asks for.
 * @throws PeftError if it fails, or if the model or the rows differ from the plan.
 */
export async function performTrial(
  { trial, checkpoints: folder, checkpointEvery }: TrialRequest,
  prepared: PreparedTrial,
  onProgress: (progress: TrialProgress) => void,
  signal?: AbortSignal,
): Promise<DoneTrial> {
  assertAsPlanned(trial, prepared);
  const checkpoints = folder === null ? noCheckpoints : trialCheckpoints(trial.id, { folder, every: checkpointEvery });
  const { result } = await runTrial(trial, prepared, { onProgress, checkpoints, ...(signal && { signal }) });
  return result;
}
