import * as tf from '@tensorflow/tfjs-core';
import { Tensor, type Scalar } from '@tensorflow/tfjs-core';
import { peftScope, type ForwardTensors } from '../adapter/scope.js';
import { tensorKey, tensorsOf, valuesOf, type LayerTensor } from '../adapter/peft-model.js';
import { PeftError, TrainingError } from '../errors.js';
import type { AdapterLayers, StepContext } from '../contracts/layer.js';
import type { Model } from '../contracts/model.js';
import type { Loss, LossBatch } from '../losses/loss.js';
import type { Optimizer } from '../optimizers/optimizer.js';
import { stepContext } from '../runtime/context.js';
import { mapValues, tensorAt, type Tensors } from '../tensors.js';
import type { TrainOptions } from './options.js';
import {
  blocksOf,
  joined,
  parted,
  stacked,
  updateGroups,
  type UpdatedTensor,
  type UpdateGroup,
} from './update-groups.js';
import { lossOn } from './word-blocks.js';

/*
 * A training step as pure functions of tensors:
 *
 *   O  = loss + the layers' own terms                 the objective
 *   dO, each layer's `gradient` rule, clipping        min(1, c / |dO|)
 *   the optimizer                                     proposes new values
 *   the layers' rules after it                        e.g. SoRA's proximal step
 *
 * `trainStep` does all of it. With several batches per step, `addPart` runs for each of them and `advance` at the end.
 */

/** Everything that defines a training step, except its tensors. */
export interface StepDefinition extends Required<Pick<TrainOptions, 'clipNorm' | 'unclippedGroups'>> {
  /** The frozen network. */
  readonly model: Model;
  /** Every trained layer, saved modules included. */
  readonly layers: AdapterLayers;
  /** The number of the adapter's own layers. */
  readonly adapted: number;
  /** The loss to minimise. */
  readonly loss: Loss;
  /** The optimizer. */
  readonly optimizer: Optimizer;
  /** The rates of the network's own dropout, by place. */
  readonly networkDropout: StepContext['networkDropout'];
}

/** The inputs of the forward and backward pass. */
export interface GradientInputs extends Omit<ForwardTensors, 'inputs'> {
  /** A batch, or a part of one; its inputs include the rows gathered on the host. */
  readonly batch: LossBatch;
  /** The controller's scalars by name, and the integers that seed dropout. */
  readonly scalars: Tensors;
}

/** The inputs of the rest of a step. */
export interface UpdateInputs extends Pick<GradientInputs, 'adapter'> {
  /** The optimizer's slots, each by the names of `updateGroups`. */
  readonly slots: Readonly<Record<string, Tensors>>;
  /** The optimizer's own scalars, by name. */
  readonly optimizer: Tensors;
  /** Learning rates, by group. */
  readonly rates: Tensors;
  /** The controller's scalars, by name. */
  readonly scalars: Tensors;
}

/** The tensors of a step, by kind and then by name. */
export type StepInputs = GradientInputs & UpdateInputs;

/** The outputs of a step: its report, and the tensors that it changes. */
export interface StepOutputs {
  /** Tensors to report to the host. */
  readonly report: {
    /** The loss on the data alone. */
    readonly loss: Tensor;
    /** The minimised value: the loss plus the layers' own terms. */
    readonly objective: Tensor;
    /** The norm of each trained tensor's gradient before clipping, in the order of `trainedTensors`. */
    readonly gradientNorms: Tensor;
  };
  /** New values of the layers' tensors, by `<path>.<name>`. */
  readonly adapter: Tensors;
  /** New values of the optimizer's slots. */
  readonly slots: Readonly<Record<string, Tensors>>;
}

/** Loss, objective and gradients; for several parts, their weighted sums. */
export interface Gradients {
  /** The loss on the data alone. */
  readonly loss: Tensor;
  /** The minimised value. */
  readonly objective: Tensor;
  /** By the keys of `trainedTensors`. */
  readonly gradients: Tensors;
}

/** The inputs for one part of a step's batch. */
export interface PartInputs extends GradientInputs {
  /** Numbers of this part. */
  readonly part: {
    /** The part's weight; the weights of all parts sum to 1. */
    readonly share: Tensor;
  };
  /** Sums over the previous parts. */
  readonly sums: Gradients;
}

/** The inputs for the end of a step in parts. */
export interface EndInputs extends UpdateInputs {
  /** Sums over all parts. */
  readonly sums: Gradients;
}

/** A trained tensor and the layer it belongs to. */
export interface TrainedTensor extends UpdatedTensor, Omit<LayerTensor, 'spec'> {}

/** Returns the trained tensors of layers, in a fixed order. */
export function trainedTensors(layers: AdapterLayers): TrainedTensor[] {
  return tensorsOf(layers).flatMap(({ spec, ...tensor }) =>
    'trainable' in spec && spec.trainable ? [{ ...spec, ...tensor, shape: spec.initial.shape }] : [],
  );
}

/** Computes a whole training step on one batch. */
export function trainStep(definition: StepDefinition, inputs: StepInputs): StepOutputs {
  return advance(definition, inputs, batchGradients(definition, inputs));
}

/** Computes the gradients of a part of a step's batch, and adds them to those of the previous parts. */
export function addPart(definition: StepDefinition, { part: { share }, sums, ...inputs }: PartInputs): Gradients {
  const { loss, objective, gradients } = batchGradients(definition, inputs);
  const added = (sum: Tensor, value: Tensor): Tensor => tf.add(sum, tf.mul(value, share));
  return {
    loss: added(sums.loss, loss),
    objective: added(sums.objective, objective),
    gradients: mapValues(gradients, (gradient, key) => added(tensorAt(sums.gradients, key), gradient)),
  };
}

/** Computes the rest of a step from its gradients. */
export function advance(definition: StepDefinition, inputs: UpdateInputs, found: Gradients): StepOutputs {
  const { layers, adapted } = definition;
  const trained = trainedTensors(layers);
  const ctx = stepContext(inputs.scalars, adapted, true);
  const gradients = applyGradientRules(trained, found.gradients, inputs.adapter);
  const gradientNorms = euclideanNorms(trained, gradients); // [tensors]
  const factors = clipFactors(definition, trained, gradientNorms);
  const next = { adapter: {} as Tensors, slots: mapValues(definition.optimizer.slots, (): Tensors => ({})) };
  const clipped: Tensors = {};
  for (const group of updateGroups(definition.optimizer, trained)) {
    const moved = updateTogether(definition.optimizer, inputs, group, gradients, factors);
    Object.assign(next.adapter, parted(group, moved.value));
    Object.assign(clipped, parted(group, moved.gradient));
    for (const [slot, value] of Object.entries(moved.slots)) tensorAt(next.slots, slot)[group.name] = value;
  }
  const ruled = applyLayerRules(layers, { previous: inputs.adapter, proposed: next.adapter, gradients: clipped }, ctx);
  const { loss, objective } = found;
  return {
    report: { loss, objective, gradientNorms },
    adapter: { ...next.adapter, ...ruled },
    slots: next.slots,
  };
}

function batchGradients(
  { model, layers, adapted, loss, networkDropout }: StepDefinition,
  { batch, frozen, adapter, scalars }: GradientInputs,
): Gradients {
  const ctx = stepContext(scalars, adapted, true, networkDropout);
  return objectiveGradients(layers, adapter, ctx, () => {
    const scope = peftScope(model, layers, { inputs: batch.inputs, frozen, adapter }, ctx);
    return lossOn(model, layers, scope, loss, batch);
  });
}

/**
 * Computes the loss, the objective, and its gradients with respect to the trained tensors.
 * @param lossOf computes the loss on the data from the tensors of `adapter`
 * @throws TrainingError for a loss that is not one number or does not depend on a trained tensor.
 */
export function objectiveGradients(
  layers: AdapterLayers,
  adapter: Tensors,
  ctx: StepContext,
  lossOf: () => Scalar,
): Gradients {
  let loss: Tensor | undefined;
  const objectiveOf = (): Scalar => {
    const own = lossOf();
    if (!((own as unknown) instanceof Tensor) || own.rank > 0) {
      const got = (own as unknown) instanceof Tensor ? `a tensor of rank ${own.rank}: take its mean` : typeof own;
      throw new TrainingError(`the loss must be one number, as a tensor without axes, got ${got}`, 'loss');
    }
    loss = tf.keep(tf.clone(own)); // kept beyond the tape's scope; disposed below
    const terms = Object.values(layers).flatMap((layer) => layer.loss?.(valuesOf(layer, adapter), ctx) ?? []);
    return terms.reduce((sum: Scalar, term) => tf.add(sum, term), own);
  };
  const trained = trainedTensors(layers);
  const at = trained.map(({ key }) => tensorAt(adapter, key));
  const { value: objective, grads } = gradientsAt(at, objectiveOf, () => loss !== undefined);
  const kept = loss as unknown as Tensor;
  const reported = tf.clone(kept);
  kept.dispose();
  const gradients = trained.map((tensor, index) => [tensor.key, reached(tensor, grads[index])] as const);
  return { loss: reported, objective, gradients: Object.fromEntries(gradients) };
}

/** Runs the forward and the backward pass. @throws TrainingError for an op without a gradient that works. */
function gradientsAt(at: Tensor[], objectiveOf: () => Scalar, isBackward: () => boolean) {
  try {
    return tf.engine().gradients(objectiveOf, at, undefined, true);
  } catch (cause) {
    throw isBackward() ? brokenGradient(cause) : cause;
  }
}

/**
 * Explains an error of the backward pass. A TypeError comes from a tensor that is gone: TensorFlow.js disposes of those
 * that an op's gradient reads without having saved them, as that of `tf.logSigmoid`.
 */
function brokenGradient(cause: unknown): unknown {
  const root = cause instanceof Error ? (cause.cause ?? cause) : cause;
  if (cause instanceof PeftError && !(root instanceof TypeError)) return cause;
  const reason =
    root instanceof TypeError
      ? 'it reads a tensor that TensorFlow.js has disposed of, as that of tf.logSigmoid(x) does; write tf.neg(tf.softplus(tf.neg(x)))'
      : String(root);
  return new TrainingError(`the gradient of the loss cannot be computed: ${reason}`, 'loss', cause);
}

function reached({ key, layer }: TrainedTensor, gradient: Tensor | undefined): Tensor {
  if (gradient) return gradient;
  throw new TrainingError(
    `'${layer.site.path}' is adapted, but the loss does not depend on it; list it in excludeModules`,
    key,
  );
}

/** Applies each layer's `gradient` rule. */
export function applyGradientRules(trained: readonly TrainedTensor[], gradients: Tensors, adapter: Tensors): Tensors {
  return Object.fromEntries(
    trained.map(({ key, name, layer }) => {
      const gradient = tensorAt(gradients, key);
      return [key, layer.gradient?.(name, gradient, valuesOf(layer, adapter)) ?? gradient];
    }),
  );
}

/**
 * Returns the Euclidean norm of each tensor, `[tensors]`; those of equal shape are computed together. `tf.norm` takes
 * absolute values and powers first: two more passes over every gradient.
 */
function euclideanNorms(trained: readonly TrainedTensor[], gradients: Tensors): Tensor {
  const blocks = blocksOf(trained);
  const sums = blocks.map((block) => {
    const rows = tf.reshape(stacked(block, gradients), [block.length, -1]); // [tensors of this shape, size]
    return tf.sum(tf.square(rows), 1);
  });
  const places = new Map(blocks.flat().map(({ key }, place) => [key, place]));
  const order = trained.map(({ key }) => places.get(key) as number);
  return tf.gather(tf.sqrt(tf.concat(sums)), tf.tensor1d(order, 'int32'));
}

/** Returns the clipping factor of each optimizer group; undefined for groups that are not clipped. */
function clipFactors(
  { clipNorm, unclippedGroups }: StepDefinition,
  trained: readonly TrainedTensor[],
  norms: Tensor,
): (group: string) => Scalar | undefined {
  if (clipNorm === null) return () => undefined;
  const counts = trained.map(({ group }) => !unclippedGroups.includes(group));
  const counted = counts.every(Boolean) ? norms : tf.mul(norms, tf.tensor1d(counts.map(Number)));
  const factor = clipFactor(counted, clipNorm);
  return (group) => (unclippedGroups.includes(group) ? undefined : factor);
}

/** Returns min(1, maxNorm / norm) for the norm over several tensors, as torch's `clip_grad_norm_` computes it. */
export function clipFactor(norms: Tensor, maxNorm: number): Scalar {
  const total = tf.sqrt(tf.sum(tf.square(norms))); // [tensors] -> scalar
  return tf.minimum(1, tf.div(maxNorm, tf.add(total, 1e-6)));
}

/** Runs the optimizer on a group of tensors. Returns their new values and slots, and their clipped gradients. */
function updateTogether(
  optimizer: Optimizer,
  { adapter, slots, optimizer: scalars, rates }: UpdateInputs,
  group: UpdateGroup,
  gradients: Tensors,
  factorOf: (group: string) => Scalar | undefined,
): { value: Tensor; gradient: Tensor; slots: Tensors } {
  const [first] = group.tensors;
  const factor = factorOf(first.group);
  const gradient = factor ? tf.mul(joined(group, gradients), factor) : joined(group, gradients);
  const moved = optimizer.update({
    value: joined(group, adapter),
    gradient,
    slots: slotsOf(slots, group.name),
    learningRate: rateOf(first, rates),
    decay: first.decay,
    scalars: scalars as Record<string, Scalar>,
  });
  return { ...moved, gradient };
}

function rateOf({ group, rateFactor = 1, learningRate }: UpdatedTensor, rates: Tensors): Scalar {
  if (learningRate !== undefined) return tf.scalar(learningRate);
  const ofGroup = tensorAt(rates, group) as Scalar;
  return rateFactor === 1 ? ofGroup : tf.mul<Scalar>(ofGroup, rateFactor);
}

/** Returns the slots of a trained tensor, or of a group. */
export function slotsOf<T>(
  slots: Readonly<Record<string, Readonly<Record<string, T>>>>,
  key: string,
): Record<string, T> {
  const own = Object.entries(slots).flatMap(([slot, values]) => {
    const value = values[key];
    return value === undefined ? [] : [[slot, value] as const];
  });
  return Object.fromEntries(own);
}

/** Applies the layers' rules after the optimizer, e.g. SoRA's proximal step. Returns new values by `tensorKey`. */
export function applyLayerRules(
  layers: AdapterLayers,
  { previous, proposed, gradients }: Readonly<Record<'previous' | 'proposed' | 'gradients', Tensors>>,
  ctx: StepContext,
): Tensors {
  const changed: Tensors = {};
  const tensors = { ...previous, ...proposed };
  for (const layer of Object.values(layers)) {
    if (!layer.update) continue;
    const at = { previous: valuesOf(layer, previous), gradient: valuesOf(layer, gradients), ctx };
    for (const [name, value] of Object.entries(layer.update(valuesOf(layer, tensors), at))) {
      changed[tensorKey(layer, name)] = value;
    }
  }
  return changed;
}
