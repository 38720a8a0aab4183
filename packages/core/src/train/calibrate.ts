import * as tf from '@tensorflow/tfjs';
import type { Scalar, Tensor } from '@tensorflow/tfjs';
import { adaptedSites, savedModules } from '../adapter/attach.js';
import { initialValues } from '../adapter/peft-model.js';
import { forward, peftScope, type ForwardTensors } from '../adapter/scope.js';
import type {
  AdapterLayers,
  Calibration,
  CalibrationKind,
  ConfiguredMethod,
  TargetConfig,
} from '../contracts/method.js';
import { assertKnownOptions } from '../config.js';
import { ConfigError } from '../errors.js';
import type { Executor, PureFunction } from '../contracts/executor.js';
import type { Batch, DataKind, Model, Scope, TrainingData } from '../contracts/model.js';
import { toRows } from '../nn/linear.js';
import { createRng } from '../rng.js';
import { hostTensor, mapValues, tensorAt, tensorsAt, type HostTensor, type Tensors } from '../tensors.js';
import { cachingCompiler } from './compiler.js';
import { frozenWeights, modelInputs, specsOf } from './feeds.js';
import { flatten, unflatten, type Groups } from './groups.js';
import { assertLabels } from './labels.js';
import { assertObjective, objectiveLoss } from './loss.js';
import { stepContext } from './step.js';

/** How much is measured, and with which head. */
export interface CalibrateOptions {
  readonly executor: Executor;
  /** Number of batches, from the first epoch. Default 8. */
  readonly batches?: number;
  /** The seed that `attach` will be given: the head is the same then. Default 0. */
  readonly seed?: number;
}

/**
 * Measures on some batches what a configuration's initial values are computed from: the second moment of what each adapted
 * module reads, or the gradient of the loss at its frozen weight. Give the result to `attach`.
 * @throws ConfigError for an unknown option, and when the configuration computes nothing from data.
 * @throws DataError for a label that no output of the model represents.
 * @throws TargetModuleError when it matches no module.
 */
export async function calibrate<C extends TargetConfig>(
  model: Model,
  { method, config }: ConfiguredMethod<C>,
  data: TrainingData,
  options: CalibrateOptions,
): Promise<Calibration> {
  assertKnownOptions('calibrate', options, ['executor', 'batches', 'seed']);
  const { executor, batches = 8, seed = 0 } = options;
  const kind = method.calibration?.(config);
  if (!kind) throw new ConfigError(`${method.name}: this configuration needs no calibration`, 'calibration');
  const paths = adaptedSites(model, method, config).matched.flatMap((s) => (s.kind === 'linear' ? [s.path] : []));
  const saved = savedModules(model, config, createRng(seed));
  const measured = data.epoch(0).slice(0, batches);
  assertObjective(data.kind);
  assertLabels(model, measured, data.kind);
  const measure = measuring(kind, { model, saved, paths, objective: data.kind });
  const { rows, ...totals } = await summed(model, saved, measured, measure, executor);
  const count = kind === 'activations' ? tensorAt({ rows }, 'rows')?.data[0] : measured.length;
  const values = mapValues(totals, ({ data, shape }) =>
    hostTensor(
      Float32Array.from(data, (value) => value / (count ?? 1)),
      shape,
    ),
  );
  return { kind, values };
}

interface Measured {
  readonly model: Model;
  readonly saved: AdapterLayers;
  readonly paths: readonly string[];
  readonly objective: DataKind;
}

function measuring(kind: CalibrationKind, measured: Measured): PureFunction {
  return (flat) => {
    const { labels, ...tensors } = unflatten(flat, ['inputs', 'labels', 'frozen', 'adapter']);
    return kind === 'activations' ? secondMoments(measured, tensors) : weightGradients(measured, tensors, labels);
  };
}

/** X^T X `[in, in]` of the tokens that each module reads, by path, and their number as `rows`. */
function secondMoments({ model, saved, paths }: Measured, tensors: ForwardTensors): Tensors {
  const scope = peftScope(saved, tensors, stepContext({}, 0, false));
  const moments: Tensors = {};
  const mask = tensors.inputs.attentionMask;
  const recording: Scope = {
    ...scope,
    linear(path, x) {
      if (paths.includes(path)) {
        const rows = toRows(x); // [.., in] -> [rows, in]
        const counted = mask?.size === rows.shape[0] ? tf.mul(rows, tf.reshape(mask, [-1, 1])) : rows;
        const moment = tf.matMul(counted, rows, true, false); // [in, in]
        moments[path] = moments[path] ? tf.add(moments[path], moment) : moment;
      }
      return scope.linear(path, x);
    },
  };
  model.forward(recording, tensors.inputs);
  return { ...moments, rows: mask ? tf.sum(mask) : tf.scalar(1) };
}

/** dL/dW0 `[in, out]` by path. */
function weightGradients(
  { model, saved, paths, objective }: Measured,
  tensors: ForwardTensors,
  { labels, rowWeights }: Tensors,
): Tensors {
  const names = paths.map((path) => `${path}.weight`);
  const at = tensorsAt(tensors.frozen, ...names);
  // Frozen weights have no gradient; among the adapter's tensors these have one.
  const frozen = Object.fromEntries(Object.entries(tensors.frozen).filter(([name]) => !(name in at)));
  const differentiable = { ...tensors, frozen, adapter: { ...tensors.adapter, ...at } };
  const loss = (): Scalar => {
    const outputs = forward(model, saved, differentiable, stepContext({}, 0, false));
    return objectiveLoss(objective, outputs, {
      labels: labels as Tensor,
      rowWeights: rowWeights as Tensor,
      attentionMask: tensors.inputs.attentionMask,
    });
  };
  const weights = Object.values(at);
  const { grads } = tf.engine().gradients(loss, weights, undefined, true);
  return Object.fromEntries(
    paths.map((path, index) => [path, grads[index] ?? tf.zerosLike(weights[index] as Tensor)] as const),
  );
}

/** A sum of tensors in double precision. */
interface Sum {
  readonly shape: readonly number[];
  readonly data: Float64Array;
}

/** What a function gives for each batch, added up. */
async function summed(
  model: Model,
  saved: AdapterLayers,
  batches: readonly Batch[],
  measure: PureFunction,
  executor: Executor,
): Promise<Record<string, Sum>> {
  const compiler = cachingCompiler(executor);
  const uploaded = (groups: Groups<HostTensor>) => mapValues(flatten(groups), (tensor) => executor.upload(tensor));
  const fixed = { frozen: frozenWeights(model, saved), adapter: initialValues(saved) };
  const held = uploaded(fixed);
  const sums: Record<string, Sum> = {};
  for (const batch of batches) {
    const { labels, rowWeights } = batch;
    const fed = { inputs: modelInputs(model, saved, batch), labels: { labels, rowWeights } };
    const compiled = await compiler.get('calibrate', mapValues({ ...fixed, ...fed }, specsOf), measure);
    const given = uploaded(fed);
    const result = await compiled.run({ ...held, ...given });
    for (const [name, value] of Object.entries(result)) addTo(sums, name, await executor.download(value));
    for (const value of [...Object.values(given), ...Object.values(result)]) executor.release(value);
  }
  for (const value of Object.values(held)) executor.release(value);
  await compiler.dispose();
  return sums;
}

function addTo(sums: Record<string, Sum>, name: string, { shape, data }: HostTensor): void {
  const sum = (sums[name] ??= { shape, data: new Float64Array(data.length) });
  data.forEach((value, index) => {
    sum.data[index] = (sum.data[index] as number) + value;
  });
}
