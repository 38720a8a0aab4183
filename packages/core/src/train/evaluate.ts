import { activeParts, mixedParts } from '../adapter/active-parts.js';
import { anyModel, adapterNamed, BASE, type Adapter, type PeftModel } from '../adapter/peft-model.js';
import * as v from 'valibot';
import { assertArgument, parseOptions } from '../config.js';
import { ConfigError } from '../errors.js';
import type { Executor } from '../contracts/executor.js';
import type { AdapterLayers } from '../contracts/layer.js';
import type { Batch, EvaluationData, InputBatch, Model } from '../contracts/model.js';
import { aBatchList, aFunction, aTextList, anything, someEvaluationData } from '../kinds.js';
import { lossWeight, type Loss } from '../losses/loss.js';
import { surpriseOfRows } from '../losses/surprise.js';
import { printedOutputs } from '../printed.js';
import { rowsKey } from '../runtime/context.js';
import { axesOfLabels, modelInputs, dynamicSpecs, sizesOf } from '../runtime/inputs.js';
import { identityOf } from '../runtime/leases.js';
import { nextTask, type Values } from '../runtime/program.js';
import { onRuntime, type ForwardPass, type Runtime } from '../runtime/runtime.js';
import { describeNamed } from '../settings.js';
import { floats, hostTensor, joinedFloats, sizeOf, tensorAt, type HostTensor, type HostTensors } from '../tensors.js';
import { assertLabels } from './labels.js';
import { blockedSurprise, lossOn, tokenSurprise } from './word-blocks.js';

/** Options of `predict`. */
export interface PredictOptions {
  /** Computes the outputs. */
  readonly executor: Executor;
  /**
   * The adapter of each row, in the order of the outputs, or `'__base__'` for the frozen model; rows of one batch may
   * use different ones. They need not be active, and active or merged adapters have no effect; while adapters are
   * disabled, these have none either. Default: all rows use the model's current state.
   */
  readonly adapterNames?: readonly string[];
}

/** The executor is checked where it is used. */
const predictEntries = {
  executor: anything,
  adapterNames: v.optional(aTextList),
} satisfies Record<keyof PredictOptions, unknown>;

/** How far an evaluation is. */
export interface EvaluationProgress {
  /** The rows that are computed. */
  readonly rows: number;
  /** All rows. */
  readonly totalRows: number;
}

/** Options of `evaluate`. */
export interface EvaluateOptions extends Pick<PredictOptions, 'executor'> {
  /** Called after every batch. */
  readonly onProgress?: ((progress: EvaluationProgress) => void) | undefined;
}

export const evaluateEntries = {
  executor: anything,
  onProgress: v.optional(aFunction),
} satisfies Record<keyof EvaluateOptions, unknown>;

/**
 * Returns the outputs of every row: one `[classes]` array per row, `[tokens * classes]` for a token task, or
 * `[columns * width]` for rows of several texts. Rows that only fill a batch are left out.
 *
 * Outputs are in the order in which the batches list their rows, whatever the rows' numbers are: of one batch, output
 * `i` belongs to `batch.rows[i]`. All batches of a function that sorts, such as `inputBatches`, `evaluationData` or the
 * held-out rows of `trainingData`, give the outputs in the order of the rows handed to that function.
 *
 * A second call with the same adapters on the same executor compiles nothing.
 *
 * @param model a model with adapters, whose active ones act, or a plain model, e.g. a merged one
 * @throws UnsupportedError when `adapterNames` names an adapter that acts on values that all rows of a batch share.
 * @throws ConfigError for an unknown option, when `adapterNames` names an unknown adapter or does not have one name per
 * row, or when the model has no adapters.
 */
export async function predict(
  model: PeftModel | Model,
  batches: readonly InputBatch[],
  options: PredictOptions,
): Promise<Float32Array[]> {
  assertArgument('model', model, anyModel);
  assertArgument('batches', batches, aBatchList);
  const { adapterNames } = parseOptions('predict', predictEntries, options);
  const { executor } = options;
  const named = adapterNames ? namedAdapters(model, batches, adapterNames) : [];
  const isMixed = adapterNames !== undefined && 'adapters' in model && model.enabled;
  const parts = isMixed ? mixedParts(model, named) : activeParts(model);
  const outputs = await onRuntime(parts, executor, (runtime, values) =>
    outputsWith(runtime, parts.layers, values, { batches }, { holdsFrozen: true, ...(isMixed && { adapterNames }) }),
  );
  return printedOutputs(outputs);
}

/**
 * Returns the metrics of a model, with its active adapters, on labelled data.
 * @throws ConfigError for an unknown option.
 * @throws DataError for a label that no output of the model represents, before anything is computed.
 */
export async function evaluate(
  model: PeftModel | Model,
  data: EvaluationData,
  options: EvaluateOptions,
): Promise<Record<string, number>> {
  parseOptions('evaluate', evaluateEntries, options);
  const outputs = await evaluationOutputs(model, data, options);
  return data.score(outputs);
}

/** Returns the primary metric. @throws ConfigError when the scores lack it. */
export function primaryMetricOf(
  data: Pick<EvaluationData, 'primaryMetric'>,
  metrics: Readonly<Record<string, number>>,
): number {
  const value = metrics[data.primaryMetric];
  if (value !== undefined) return value;
  const found = Object.keys(metrics).join(', ') || 'none';
  throw new ConfigError(`the data's score has no '${data.primaryMetric}', only ${found}`, 'primaryMetric');
}

/**
 * Returns what `evaluate` scores: the outputs of every row, divided by the temperature if the first active adapter has
 * one, or their summaries (`EvaluationData.summarise`), in the order of `predict`. Use it to get metrics and predictions
 * from one pass.
 * @throws DataError for a label that no output of the model represents, before anything is computed.
 */
export async function evaluationOutputs(
  model: PeftModel | Model,
  data: EvaluationData,
  { executor, onProgress }: EvaluateOptions,
): Promise<Float32Array[]> {
  assertArgument('data', data, someEvaluationData);
  const parts = activeParts(model);
  assertLabels(parts.model, data.batches);
  const outputs = await onRuntime(parts, executor, (runtime, values) =>
    outputsWith(runtime, parts.layers, values, data, { onProgress }),
  );
  const [first] = 'adapters' in model && model.enabled ? model.active : [];
  const temperature = first === undefined ? undefined : adapterNamed(model as PeftModel, first).temperature;
  return temperature === undefined ? outputs : outputs.map((row) => row.map((logit) => logit / temperature));
}

/**
 * Does the same on an open runtime.
 * @param adapter values of the layers' tensors
 */
export async function outputsWith(
  runtime: Runtime,
  layers: AdapterLayers,
  adapter: Values,
  data: Pick<EvaluationData, 'batches' | 'summarise' | 'takesSurprise'>,
  { adapterNames = [], holdsFrozen = false, onProgress }: OutputOptions = {},
): Promise<Float32Array[]> {
  const surpriseOf = data.summarise ? blockedSurprise : tokenSurprise;
  const surprise = data.takesSurprise ? surpriseOf(runtime.model, layers) : undefined;
  const surprising: ForwardPass = {
    name: 'surprise',
    compute: (scope, inputs) => {
      const ofLabels = (surprise as NonNullable<typeof surprise>)(scope, inputs);
      return { outputs: surpriseOfRows(ofLabels, tensorAt(inputs, LABELS)) };
    },
  };
  const prediction: ForwardPass = {
    name: 'predict',
    holdsFrozen,
    compute: (scope, inputs) => ({ outputs: runtime.model.forward(scope, inputs) }),
  };
  const places = placesOf(data.batches);
  const found = new Array<Float32Array>(places.length);
  let done = 0;
  for (const batch of data.batches) {
    const own = places.slice(done, done + batch.rows.length);
    done += own.length;
    const inputs = modelInputs(runtime.model, layers, batch);
    const rows = rowMasks(batch, own, adapterNames);
    const { labels } = batch;
    const isSummed = surprise !== undefined && labels !== undefined;
    const fed = isSummed ? { inputs: { ...inputs, [LABELS]: labels }, rows } : { inputs, rows };
    const outputs = await downloadPass(runtime, layers, adapter, isSummed ? surprising : prediction, fed, batch);
    own.forEach((place, index) => {
      const ofRow = outputsOfRow(outputs, batch, index);
      const summary = isSummed ? undefined : data.summarise?.(batch.rows[index] as number, ofRow);
      found[place] = summary ?? ofRow.slice();
    });
    onProgress?.({ rows: done, totalRows: places.length });
    await nextTask();
  }
  return found;
}

/**
 * Returns the place of each row's output, in the order in which the batches list their rows: where the rows stood
 * before they were sorted, if these are all batches of one sort, else where they are listed.
 */
function placesOf(batches: readonly InputBatch[]): readonly number[] {
  const count = batches.reduce((sum, { rows }) => sum + rows.length, 0);
  const places = batches.flatMap(({ sorted }) => (sorted?.of === count ? sorted.places : []));
  const isWhole = places.length === count && new Set(places).size === count;
  return isWhole ? places : Array.from({ length: count }, (_, place) => place);
}

/** Returns the outputs of one row of a batch; those of its texts are concatenated. */
function outputsOfRow(outputs: HostTensor, { rowWeights, columns = 1 }: InputBatch, index: number): Float32Array {
  const width = sizeOf(outputs.shape.slice(1));
  const rows = rowWeights.shape[0] as number;
  const ofText = (column: number): Float32Array => {
    const start = (column * rows + index) * width;
    return floats(outputs).subarray(start, start + width);
  };
  return columns === 1 ? ofText(0) : joinedFloats(Array.from({ length: columns }, (_, column) => ofText(column)));
}

interface OutputOptions extends Pick<ForwardPass, 'holdsFrozen'>, Pick<EvaluateOptions, 'onProgress'> {
  /** The adapter of each row, in the order of the outputs. Default: the layers act on all rows. */
  readonly adapterNames?: readonly string[] | undefined;
}

/** Returns the mean of a loss over batches, with the layers acting and without dropout. */
export async function meanLoss(
  runtime: Runtime,
  layers: AdapterLayers,
  adapter: Values,
  batches: readonly Batch[],
  loss: Loss,
): Promise<number> {
  const measuring: ForwardPass = {
    // a runtime keeps a pass by its name, which functions may share
    name: `loss ${identityOf(loss.loss)} ${describeNamed(loss)}`,
    compute: (scope, inputs) => {
      const [labels, rowWeights] = [tensorAt(inputs, LABELS), tensorAt(inputs, ROW_WEIGHTS)];
      return { outputs: lossOn(runtime.model, layers, scope, loss, { inputs, labels, rowWeights }) };
    },
  };
  let [sum, total] = [0, 0];
  for (const batch of batches) {
    const weight = lossWeight(loss, batch);
    const read = modelInputs(runtime.model, layers, batch);
    const inputs = { ...read, [LABELS]: batch.labels, [ROW_WEIGHTS]: batch.rowWeights };
    const axes = axesOfLabels(LABELS, batch.labels);
    const { data } = await downloadPass(runtime, layers, adapter, measuring, { inputs, rows: {}, axes }, batch);
    sum += weight * (data[0] as number);
    total += weight;
    await nextTask();
  }
  return sum / total;
}

/** Names that no input of a model has. */
const LABELS = ':labels';
const ROW_WEIGHTS = ':rowWeights';

/** Runs a pass on a batch, and downloads its `outputs`. */
export async function downloadPass(
  runtime: Runtime,
  layers: AdapterLayers,
  adapter: Values,
  pass: ForwardPass,
  { inputs, rows, axes = {} }: Readonly<Record<'inputs' | 'rows', HostTensors>> & Pick<Model, 'axes'>,
  batch: InputBatch,
): Promise<HostTensor> {
  const { executor, model } = runtime;
  const sizes = sizesOf(batch);
  const specs = {
    inputs: dynamicSpecs(inputs, sizes, { ...model.axes, ...batch.axes, ...axes }),
    rows: dynamicSpecs(rows, sizes),
    cache: {},
  };
  const { program, frozen } = runtime.pass(layers, pass, specs);
  const { outputs } = await program.run({ inputs, rows }, { cache: {}, frozen, adapter });
  const onHost = await executor.download(outputs);
  executor.release(outputs);
  return onHost;
}

/** @throws ConfigError for an unknown name, and when there is not one per row. */
function namedAdapters(model: PeftModel | Model, batches: readonly InputBatch[], names: readonly string[]): Adapter[] {
  if (!('adapters' in model)) throw new ConfigError('adapterNames needs a model with adapters', 'adapterNames');
  const count = batches.reduce((sum, { rows }) => sum + rows.length, 0);
  if (names.length !== count) {
    throw new ConfigError(`adapterNames has ${names.length} names; the batches have ${count} rows`, 'adapterNames');
  }
  return adaptersIn(names).map((name) => adapterNamed(model, name));
}

/** Returns the adapters of a mixed batch, in one order whichever row comes first: the same set compiles once. */
function adaptersIn(names: readonly string[]): string[] {
  return [...new Set(names)].filter((name) => name !== BASE).sort();
}

/**
 * Returns each adapter's mask of the texts of a batch, `[columns * batch, 1]`. Rows that only fill the batch belong to
 * none.
 * @param places the places of the batch's rows among the names
 */
function rowMasks(
  { rowWeights, columns = 1 }: InputBatch,
  places: readonly number[],
  names: readonly string[],
): HostTensors {
  const batch = rowWeights.shape[0] as number;
  const masks = adaptersIn(names).map((adapter) => {
    const isOwn = (row: number): boolean => names[places[row] ?? -1] === adapter;
    const mask = Float32Array.from({ length: columns * batch }, (_, text) => Number(isOwn(text % batch)));
    return [rowsKey(adapter), hostTensor(mask, [columns * batch, 1])] as const;
  });
  return Object.fromEntries(masks);
}
