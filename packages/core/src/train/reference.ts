import { anyModel, type PeftModel } from '../adapter/peft-model.js';
import { assertArgument, parseOptions } from '../config.js';
import type { Executor } from '../contracts/executor.js';
import type { Batch, EvaluationData, Model, TrainingData } from '../contracts/model.js';
import { ConfigError, DataError } from '../errors.js';
import { someEvaluationData } from '../kinds.js';
import type { Loss } from '../losses/loss.js';
import { REFERENCE_LOGPS } from '../losses/preferences.js';
import { onRuntime, type Runtime } from '../runtime/runtime.js';
import { floats, hostRows, type HostTensor, type HostTensors } from '../tensors.js';
import { evaluateEntries, evaluationOutputs, outputsWith, type EvaluateOptions } from './evaluate.js';
import type { TrainOptions } from './options.js';
import { trainSettings } from './plan.js';
import type { PlannedRun } from './run.js';
import { withBatches, withRows } from './with-inputs.js';

/*
 * A loss of preferences may compare the model with the frozen one. What the latter gives each row never changes: it is
 * computed once, before the first step, and kept in snapshots.
 */

/**
 * Returns evaluation data that compare a model with its frozen network, adapters switched off: `rewardAccuracy` and
 * `rewardMargin` of preferences are then those of DPO. `train` does this by itself for the data it selects on.
 * @throws ConfigError for data that have a reference already or compare nothing.
 */
export async function withReference(
  data: EvaluationData,
  model: PeftModel | Model,
  options: EvaluateOptions,
): Promise<EvaluationData> {
  assertArgument('data', data, someEvaluationData);
  assertArgument('model', model, anyModel);
  parseOptions('withReference', evaluateEntries, options);
  if (!data.withReference) {
    throw new ConfigError('expected data of preferences without a reference, as of preferenceEvaluation', 'data');
  }
  const frozen = 'adapters' in model ? model.model : model;
  return data.withReference(await evaluationOutputs(frozen, data, options));
}

/** The reference of a run, shared by its stages. */
export interface SharedReference {
  /** Returns that of the training rows and the selection data: undefined where the loss needs none. */
  readonly ofRun: () => Promise<HostTensors | undefined>;
  /** Adds the reference to data that stages are scored on, if their loss needs one; each is computed once. */
  readonly addTo: (data: EvaluationData) => Promise<EvaluationData>;
}

/**
 * Returns the reference that a run's loss needs: the snapshot's, or else computed at the first call, after whatever can
 * be checked without it.
 * @param data the rows of all stages, held-out rows included
 */
export function sharedReference(peft: PeftModel, data: TrainingData, options: TrainOptions): SharedReference {
  const { loss, selection } = trainSettings(peft, options, data.kind);
  const { executor, resume } = options;
  let known: HostTensors | Promise<HostTensors> | undefined = resume?.reference;
  const ofRun = async (): Promise<HostTensors | undefined> =>
    loss.needsReference ? await (known ??= computed(peft.model, data, selection?.data, options)) : undefined;
  const others = new Map<EvaluationData, Promise<EvaluationData>>();
  const addTo = async (judged: EvaluationData): Promise<EvaluationData> => {
    if (!loss.needsReference || !judged.withReference) return judged;
    if (judged === selection?.data) return compared(judged, await ofRun());
    const made = others.get(judged) ?? withReference(judged, peft, { executor });
    others.set(judged, made);
    return made;
  };
  return { ofRun, addTo };
}

/** Adds the reference to the data of a planned run. Training data that have it already (`withInputs`) keep it. */
export async function referenced(planned: PlannedRun, shared: SharedReference): Promise<PlannedRun> {
  const { settings, data, heldOut } = planned;
  const reference = await shared.ofRun();
  if (!reference) return planned;
  const { train } = reference;
  const add = (batch: Batch): Batch => (train ? withReferenceRows(batch, train) : batch);
  const { selection } = settings;
  return {
    ...planned,
    reference,
    data: withBatches(data, add),
    heldOut: heldOut.map(add),
    settings: { ...settings, selection: selection && { ...selection, data: compared(selection.data, reference) } },
  };
}

/** Adds the reference `[rows, 2]` to a batch. @throws DataError for a row that epoch 0 does not have. */
function withReferenceRows(batch: Batch, train: HostTensor): Batch {
  const unknown = batch.rows.find((row) => Number.isNaN(train.data[2 * row] ?? NaN));
  if (unknown === undefined) return withRows(batch, { [REFERENCE_LOGPS]: train });
  throw new DataError(
    `the training data have a row ${unknown} that is not in epoch 0, where the reference is computed: let epoch 0 have every row, or add '${REFERENCE_LOGPS}' with withInputs`,
    'rows',
  );
}

/** Adds a run's reference, if it has one, to its selection data. */
function compared(data: EvaluationData, reference: HostTensors | undefined): EvaluationData {
  return (reference?.selection && data.withReference?.(rowsOf(reference.selection))) ?? data;
}

/** Adds the reference to batches where a loss needs it and they lack it, for measurements outside of a run. */
export async function withLogps(
  model: Model,
  loss: Loss,
  batches: readonly Batch[],
  executor: Executor,
): Promise<readonly Batch[]> {
  if (!loss.needsReference || batches.every(({ inputs }) => REFERENCE_LOGPS in inputs)) return batches;
  return onRuntime({ model, values: {} }, executor, async (runtime) => {
    const logps = { [REFERENCE_LOGPS]: await logpsOf(runtime, batches) };
    return batches.map((batch) => withRows(batch, logps));
  });
}

/**
 * Computes the reference of the training rows, `train` `[rows, 2]`, and of the selection data, `selection` `[rows,
 * outputs]`, where they lack it.
 */
async function computed(
  model: Model,
  data: TrainingData,
  selection: EvaluationData | undefined,
  { executor, signal }: TrainOptions,
): Promise<HostTensors> {
  return onRuntime({ model, values: {} }, executor, async (runtime) => {
    const batches = data.epoch(0);
    const isGiven = batches.every(({ inputs }) => REFERENCE_LOGPS in inputs);
    return {
      ...(!isGiven && { train: await logpsOf(runtime, batches, signal) }),
      ...(selection?.withReference && { selection: hostRows(await outputsWith(runtime, {}, {}, selection)) }),
    };
  });
}

/**
 * The difference between two log p of the same answers, relative to them, that may be rounding: a row may be in batches
 * of different lengths.
 */
const ROUNDING = 0.01;

/**
 * Returns log p of both answers of each row, by its number: `[rows, 2]`, NaN for numbers that no row has.
 * @throws DataError for two rows of one number.
 */
async function logpsOf(runtime: Runtime, batches: readonly Batch[], signal?: AbortSignal): Promise<HostTensor> {
  const found = new Map<number, Float32Array>();
  for (const { sorted: _, ...batch } of batches) {
    signal?.throwIfAborted();
    const outputs = await outputsWith(runtime, {}, {}, { batches: [batch], takesSurprise: true });
    batch.rows.forEach((row, place) => {
      const [chosen = NaN, , rejected = NaN] = outputs[place] ?? [];
      const logps = Float32Array.of(-chosen, -rejected);
      const before = found.get(row) ?? logps;
      if (logps.some((value, at) => Math.abs(value - (before[at] as number)) > ROUNDING * Math.abs(value))) {
        throw new DataError(`two rows of the data have the number ${row}: give each row its own number`, 'rows');
      }
      found.set(row, logps);
    });
  }
  const count = [...found.keys()].reduce((most, row) => Math.max(most, row + 1), 0);
  return hostRows(Array.from({ length: count }, (_, row) => found.get(row) ?? Float32Array.of(NaN, NaN)));
}

function rowsOf(tensor: HostTensor): Float32Array[] {
  const [rows = 0, width = 0] = tensor.shape;
  return Array.from({ length: rows }, (_, row) => floats(tensor).subarray(row * width, (row + 1) * width));
}
