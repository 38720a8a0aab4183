import * as tf from '@tensorflow/tfjs-core';
import type { Scalar, Tensor } from '@tensorflow/tfjs-core';
import { adaptedSites, savedModules } from '../adapter/attach.js';
import { initialValues } from '../adapter/peft-model.js';
import { floatWeight, forward, partNames, peftScope, tiedTable } from '../adapter/scope.js';
import * as v from 'valibot';
import { assertArgument, integerFrom, parseOptions } from '../config.js';
import { ConfigError } from '../errors.js';
import type { Executor } from '../contracts/executor.js';
import type { AdapterLayers } from '../contracts/layer.js';
import type { Calibration, ConfiguredMethod } from '../contracts/method.js';
import type { Batch, Model, Scope, TrainingData } from '../contracts/model.js';
import { aCalledMethod, aModel, anInteger, anything, someTrainingData } from '../kinds.js';
import { asLoss, assertLossReads, type Loss, type LossBatch, type LossFunction } from '../losses/loss.js';
import { defaultLoss } from '../losses/losses.js';
import { toRows } from '../nn/linear.js';
import { createRng } from '../rng.js';
import { stepContext } from '../runtime/context.js';
import { fedBatch, layerSpecs } from '../runtime/inputs.js';
import { recentlyUsed } from '../runtime/leases.js';
import { downloadAll, nextTask, openProgram, releaseAll, type Program } from '../runtime/program.js';
import { onRuntime } from '../runtime/runtime.js';
import { hostTensor, type HostTensor, type Tensors } from '../tensors.js';
import { assertLabels } from './labels.js';
import { withLogps } from './reference.js';
import type { GradientInputs } from './step.js';

/** Options of `calibrate`. */
export interface CalibrateOptions {
  /** Runs the forward and backward passes. */
  readonly executor: Executor;
  /** The number of batches to measure, from the first epoch. Default 8. */
  readonly batches?: number;
  /** The seed that `attach` will get, so that both see the same head. Default 0. */
  readonly seed?: number;
  /** The loss whose gradients are measured. Default: the loss for the kind of the data. */
  readonly loss?: Loss | LossFunction;
}

const entries = {
  executor: anything, // checked where it is used
  batches: v.optional(integerFrom(1), 8),
  seed: v.optional(anInteger, 0),
  loss: anything,
} satisfies Record<keyof CalibrateOptions, unknown>;

/**
 * Measures on some batches what a configuration computes its initial values from: the second moment of each adapted
 * module's input, or the gradient of the loss with respect to its frozen weight. Pass the result to `attach`.
 * @throws ConfigError for an unknown option, data without a batch, and when the configuration computes nothing from
 * data.
 * @throws DataError for a label that no output of the model represents.
 * @throws TargetModuleError when the configuration matches no module.
 */
export async function calibrate(
  model: Model,
  configured: ConfiguredMethod,
  data: TrainingData,
  options: CalibrateOptions,
): Promise<Calibration> {
  assertArgument('model', model, aModel);
  assertArgument('configured', configured, aCalledMethod);
  assertArgument('data', data, someTrainingData);
  const { batches, seed } = parseOptions('calibrate', entries, options);
  const { executor } = options;
  const { method, config } = configured;
  const loss = asLoss(options.loss ?? defaultLoss(data.kind));
  assertLossReads(loss, data.kind);
  const kind = method.calibration?.(config);
  if (!kind) throw new ConfigError(`${method.name}: this configuration needs no calibration`, 'calibration');
  const paths = adaptedSites(model, method, config).matched.flatMap((s) => (s.kind === 'linear' ? [s.path] : []));
  const saved = savedModules(model, config, createRng(seed));
  const given = data.epoch(0).slice(0, batches);
  if (given.length === 0) throw new ConfigError('the data have no batch to measure: give at least one', 'data');
  if (loss.labels) assertLabels(model, given, data.kind);
  const measured = kind === 'activations' ? given : await withLogps(model, loss, given, executor);
  const of = { model, saved, paths, loss };
  const measure: Measure = (inputs) =>
    kind === 'activations' ? secondMoments(of, inputs) : weightGradients(of, inputs);
  const totals = await summed(model, saved, measured, measure, executor);
  const reached = Object.entries(totals).filter(([name]) => paths.includes(name));
  const values = reached.map(([path, { data, shape }]) => {
    const count = totals[rowsRead(path)]?.data[0] ?? measured.length;
    const means = Float32Array.from(data, (value) => value / count);
    return [path, hostTensor(means, shape)] as const;
  });
  return { kind, values: Object.fromEntries(values) };
}

/** The name under which the number of rows that a module reads is measured. */
function rowsRead(path: string): string {
  return `${path}:rows`;
}

interface Measured {
  readonly model: Model;
  readonly saved: AdapterLayers;
  readonly paths: readonly string[];
  readonly loss: Loss;
}

/** Measures one batch. */
type Measure = (inputs: Omit<GradientInputs, 'scalars'>) => Tensors;

/** Returns X^T X `[in, in]` of the rows that each module reads, by path, and their number. Padding is excluded. */
function secondMoments({ model, saved, paths }: Measured, { batch, frozen, adapter }: Parameters<Measure>[0]): Tensors {
  const { inputs } = batch;
  const scope = peftScope(model, saved, { inputs, frozen, adapter }, stepContext({}, 0, false));
  const sums: Tensors = {};
  const add = (name: string, value: Tensor): void => {
    sums[name] = sums[name] ? tf.add(sums[name], value) : value;
  };
  const recording: Scope = {
    ...scope,
    linear(path, x) {
      if (paths.includes(path)) {
        const rows = toRows(x); // [.., in] -> [rows, in]
        const weights = weightsOf(rows.shape[0], batch); // [rows, 1]
        add(path, tf.matMul(tf.mul(rows, weights), rows, true, false)); // [in, in]
        add(rowsRead(path), tf.sum(weights));
      }
      return scope.linear(path, x);
    },
  };
  model.forward(recording, inputs);
  return sums;
}

/**
 * Returns the weight of each row that a module reads, `[rows, 1]`: 0 for padding, and for rows that only fill the
 * batch. If there are as many rows as tokens, the rows are the tokens; otherwise each text of the batch accounts for an
 * equal part of them.
 */
function weightsOf(rows: number, { inputs: { attentionMask }, rowWeights }: LossBatch): Tensor {
  const texts = attentionMask?.shape[0] ?? rowWeights.size;
  const ofTexts = tf.reshape(tf.tile(rowWeights, [texts / rowWeights.size]), [texts, 1]); // text by text of the rows
  if (attentionMask?.size === rows) return tf.reshape(tf.mul(attentionMask, ofTexts), [rows, 1]);
  return rows % texts === 0 ? tf.reshape(tf.tile(ofTexts, [1, rows / texts]), [rows, 1]) : tf.ones([rows, 1]);
}

/**
 * Returns dL/dW0 `[in, out]` by path. Measured weights in few bits are expanded: their products have no gradient. A
 * tied module is measured apart from its table.
 */
function weightGradients(
  { model, saved, paths, loss }: Measured,
  { batch, frozen: weights, adapter }: Parameters<Measure>[0],
): Tensors {
  const { tied = [] } = model;
  const apart = { ...model, tied: tied.filter(({ site }) => !paths.includes(site.path)) };
  const weightAt = (path: string): Tensor => {
    const table = tiedTable(model, weights, path);
    if (table === undefined) return floatWeight(weights, `${path}.weight`);
    return tf.transpose(floatWeight(weights, `${table}.weight`)); // [words, width] -> [width, words]
  };
  const names = paths.map((path) => `${path}.weight`);
  const at = Object.fromEntries(paths.map((path) => [`${path}.weight`, weightAt(path)]));
  // Tensors in `frozen` have no gradient, so the measured weights are passed among the adapter's tensors.
  const left = new Set(names.flatMap(partNames));
  const frozen = Object.fromEntries(Object.entries(weights).filter(([name]) => !left.has(name)));
  const differentiable = { inputs: batch.inputs, frozen, adapter: { ...adapter, ...at } };
  const lossOf = (): Scalar => loss.loss(forward(apart, saved, differentiable, stepContext({}, 0, false)), batch);
  const tensors = Object.values(at);
  const { grads } = tf.engine().gradients(lossOf, tensors, undefined, true);
  return Object.fromEntries(
    paths.map((path, index) => [path, grads[index] ?? tf.zerosLike(tensors[index] as Tensor)] as const),
  );
}

/** A sum of tensors in double precision. */
interface Sum {
  readonly shape: readonly number[];
  readonly data: Float64Array;
}

/** Returns the sum over all batches of what `measure` returns. */
async function summed(
  model: Model,
  saved: AdapterLayers,
  batches: readonly Batch[],
  measure: Measure,
  executor: Executor,
): Promise<Record<string, Sum>> {
  return onRuntime({ model, values: initialValues(saved) }, executor, async (runtime, adapter) => {
    const frozen = runtime.frozen(saved);
    const programs = recentlyUsed<Program<Parameters<Measure>[0], Tensors>>(1, (program) => program.dispose());
    const sums: Record<string, Sum> = {};
    try {
      for (const batch of batches) {
        const { fed, specs } = fedBatch(model, saved, batch);
        const program = programs.get(JSON.stringify(specs), () =>
          openProgram(executor, measure, {
            batch: specs,
            frozen: frozen.specs,
            adapter: layerSpecs(saved),
          }),
        );
        const result = await program.run({ batch: fed }, { frozen: frozen.values, adapter });
        for (const [name, value] of Object.entries(await downloadAll(executor, result))) addTo(sums, name, value);
        releaseAll(executor, result);
        await nextTask();
      }
    } finally {
      await programs.clear();
      frozen.release();
    }
    return sums;
  });
}

function addTo(sums: Record<string, Sum>, name: string, { shape, data }: HostTensor): void {
  const sum = (sums[name] ??= { shape, data: new Float64Array(data.length) });
  data.forEach((value, index) => {
    sum.data[index] = (sum.data[index] as number) + value;
  });
}
