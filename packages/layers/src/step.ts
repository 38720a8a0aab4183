import { activeAdapter } from '@peftjs/core';
import {
  mapValues,
  tensorAt,
  UnsupportedError,
  type AdapterLayers,
  type Controller,
  type HostTensors,
  type Tensors,
} from '@peftjs/core/method';
import {
  drawNoise,
  applyLayerRules,
  objectiveGradients,
  applyGradientRules,
  stepContext,
  trainedTensors,
  type TrainedTensor,
} from '@peftjs/core/runtime';
import * as tf from '@tensorflow/tfjs';
import type { Optimizer, Scalar, Variable } from '@tensorflow/tfjs';
import { onHost, type Attachment } from './attachment.js';
import type { Run } from './run.js';
import { restartOptimizer, tensorOf } from './tfjs-layers.js';

/*
 * A step of the model's own training loop: core's step with the model's own loss and optimizer.
 *
 *   the model's optimizer updates the variables          scaled by rateFactor for parameters that have one
 *   the controller reads the values it requested, and changes them
 */

/**
 * Runs a step.
 * @returns The model's own loss.
 * @throws TrainingError for a variable that the loss does not depend on.
 */
export function oneStep(attachment: Attachment, run: Run, optimizer: Optimizer, lossOf: () => Scalar): Scalar {
  return tf.tidy(() => {
    const { layers, variables: p } = attachment.mounted();
    const adapter = activeAdapter(attachment.peft);
    const step = ++run.step;
    const rates = ratesOf(optimizer, run, layers);
    const ctx = stepContext(scalarsOf(run, adapter.layers, rates), Object.keys(adapter.layers).length, true);
    attachment.step = ctx;
    try {
      const trained = trainedTensors(layers);
      const found = objectiveGradients(layers, p, ctx, lossOf);
      const gradients = applyGradientRules(trained, found.gradients, p);
      const previous = Object.fromEntries(Object.entries(p).map(([key, value]) => [key, tf.clone(value)]));
      optimizer.applyGradients(
        trained.map(({ key }) => ({ name: tensorAt(p, key).name, tensor: tensorAt(gradients, key) })),
      );
      assign(p, rescaledSteps(run, optimizer, trained, previous, p));
      assign(p, applyLayerRules(layers, { previous, proposed: p, gradients }, ctx));
      if (run.controller) applyController(run.controller, step, optimizer, p);
      return found.loss as Scalar;
    } finally {
      attachment.step = undefined;
    }
  });
}

/** Returns the learning rate of each group of parameters. @throws UnsupportedError when the optimizer's is unknown. */
function ratesOf(
  optimizer: Optimizer,
  { controller, rateFactors }: Run,
  layers: AdapterLayers,
): Record<string, number> {
  if (!controller) return {};
  const learningRate = rateOf(optimizer);
  const groups = ['default', ...trainedTensors(layers).map(({ group }) => group)];
  return Object.fromEntries(groups.map((group) => [group, learningRate * (rateFactors[group] ?? 1)]));
}

function rateOf(optimizer: Optimizer): number {
  const { learningRate } = optimizer as { learningRate?: unknown };
  if (typeof learningRate === 'number') return learningRate;
  throw new UnsupportedError(
    `the adapter needs the learning rate, but the optimizer ${optimizer.getClassName()} has no number 'learningRate'`,
    'optimizer',
  );
}

/** Returns the scalars of the step's context: the controller's scalars and dropout's random numbers. */
function scalarsOf(run: Run, layers: AdapterLayers, rates: Readonly<Record<string, number>>): Tensors {
  const scalars = Object.entries(run.controller?.scalars(run.step, rates) ?? {});
  const noise = Object.entries(drawNoise(layers, run.noise.fork(String(run.before + run.step))));
  return Object.fromEntries([
    ...scalars.map(([name, value]) => [name, tf.scalar(value)] as const),
    ...noise.map(([name, drawn]) => [name, tensorOf(drawn)] as const),
  ]);
}

/** Scales the updates of parameters with their own learning rate: TensorFlow.js's optimizers are all linear in it. */
function rescaledSteps(
  { rateFactors }: Run,
  optimizer: Optimizer,
  trained: readonly TrainedTensor[],
  previous: Tensors,
  p: Tensors,
): Tensors {
  const factors = trained.map(({ key, group, rateFactor = 1, learningRate }) => {
    const factor = rateFactor * (rateFactors[group] ?? 1);
    return [key, learningRate === undefined ? factor : learningRate / rateOf(optimizer)] as const;
  });
  const rescaled = factors.filter(([, factor]) => factor !== 1);
  return Object.fromEntries(
    rescaled.map(([key, factor]) => {
      const from = tensorAt(previous, key);
      return [key, tf.add(from, tf.mul(tf.sub(tensorAt(p, key), from), factor))];
    }),
  );
}

/**
 * Applies the controller's changes.
 * @throws UnsupportedError when it changes ranks, because the optimizer's moments have the old shape, or measures
 * losses.
 */
function applyController(
  controller: Controller,
  step: number,
  optimizer: Optimizer,
  p: Readonly<Record<string, Variable>>,
): void {
  if (controller.probeRows) {
    throw new UnsupportedError("the method measures losses on held-out rows, which a model's own fit cannot", 'method');
  }
  const names = controller.reads(step);
  if (names.length === 0) return;
  const seen: HostTensors = Object.fromEntries(names.map((name) => [name, onHost(tensorAt(p, name))]));
  const { values = {}, resized = {}, restartsOptimizer } = controller.afterStep(step, seen) ?? {};
  const [path] = Object.keys(resized);
  if (path !== undefined) {
    throw new UnsupportedError(
      `step ${step} changes the ranks of '${path}', which a model's own fit cannot: its optimizer keeps the tensors that it started with. Choose a method and options that keep them: see the README of @peftjs/layers`,
      path,
    );
  }
  assign(p, mapValues(values, tensorOf));
  if (restartsOptimizer) restartOptimizer(optimizer);
}

function assign(p: Readonly<Record<string, Variable>>, values: Tensors): void {
  for (const [key, value] of Object.entries(values)) tensorAt(p, key).assign(value);
}
