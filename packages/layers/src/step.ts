import {
  activeAdapter,
  drawNoise,
  stepContext,
  tensorAt,
  tensorKey,
  trainedTensors,
  TrainingError,
  UnsupportedError,
  valuesOf,
  type AdapterLayers,
  type Controller,
  type HostTensor,
  type HostTensors,
  type StepContext,
  type Tensors,
  type TrainedTensor,
} from '@peftjs/core';
import * as tf from '@tensorflow/tfjs';
import type { Optimizer, Scalar, Tensor, Variable } from '@tensorflow/tfjs';
import { read, type Attachment } from './attachment.js';
import type { Run } from './run.js';
import { variableOf } from './tfjs-layers.js';

/*
 * A step of the model's own training loop: what stands between its loss and the next batch.
 *
 *   O  = loss of the model + loss terms of the layers: the objective
 *   dO = of the adapter's variables alone, after each layer's say in it
 *   the model's optimizer moves the variables            and rateFactor times as far where a parameter asks for it
 *   the layers' rules after the optimizer                proximal steps, scores
 *   the controller reads what it asked for, and changes it
 */

/** Does a step. @returns the model's own loss @throws TrainingError for a variable that the loss does not depend on. */
export function oneStep(attachment: Attachment, run: Run, optimizer: Optimizer, lossOf: () => Scalar): Scalar {
  return tf.tidy(() => {
    const { layers, variables } = attachment.mounted();
    const adapter = activeAdapter(attachment.peft);
    const step = ++run.step;
    const rates = ratesOf(optimizer, run, layers);
    const ctx = stepContext(scalarsOf(run, adapter.layers, rates), Object.keys(adapter.layers).length, true);
    const p = read(variables);
    attachment.step = ctx;
    try {
      const trained = trainedTensors(layers);
      const { loss, gradients } = differentiate(optimizer, lossOf, layers, trained, p, ctx);
      const previous = Object.fromEntries(Object.entries(p).map(([key, value]) => [key, tf.clone(value)]));
      const named = trained.map(({ key }) => ({ name: tensorAt(p, key).name, tensor: tensorAt(gradients, key) }));
      optimizer.applyGradients(named);
      assign(variables, furtherSteps(run, optimizer, trained, previous, p));
      assign(variables, ruled(layers, previous, p, gradients, ctx));
      if (run.controller) assign(variables, controlled(run.controller, step, p));
      return loss;
    } finally {
      attachment.step = undefined;
    }
  });
}

/** The learning rate of every group of parameters. @throws UnsupportedError when the optimizer does not tell its own. */
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
    `the adapter is steered by the learning rate, and the optimizer ${optimizer.getClassName()} has no number 'learningRate'`,
    'optimizer',
  );
}

/** What the step's context is asked for: the controller's scalars and the numbers that dropout is made of. */
function scalarsOf(run: Run, layers: AdapterLayers, rates: Readonly<Record<string, number>>): Tensors {
  const scalars = Object.entries(run.controller?.scalars(run.step, rates) ?? {});
  const noise = Object.entries(drawNoise(layers, run.noise.fork(String(run.before + run.step))));
  return Object.fromEntries([
    ...scalars.map(([name, value]) => [name, tf.scalar(value)] as const),
    ...noise.map(([name, drawn]) => [name, tensorOf(drawn)] as const),
  ]);
}

function differentiate(
  optimizer: Optimizer,
  lossOf: () => Scalar,
  layers: AdapterLayers,
  trained: readonly TrainedTensor[],
  p: Readonly<Record<string, Variable>>,
  ctx: StepContext,
): { loss: Scalar; gradients: Tensors } {
  let loss: Scalar | undefined;
  const objective = (): Scalar => {
    const own = lossOf();
    loss = tf.keep(tf.clone(own)); // survives the tape's scope; handed over below
    const terms = Object.values(layers).flatMap((layer) => layer.loss?.(valuesOf(layer, p), ctx) ?? []);
    return terms.reduce((sum: Scalar, term) => tf.add(sum, term), own);
  };
  const at = trained.map(({ key }) => tensorAt(p, key));
  const { grads } = optimizer.computeGradients(objective, at);
  const kept = loss as unknown as Scalar;
  const reported = tf.clone(kept);
  kept.dispose();
  const gradients: Tensors = {};
  for (const { key, name, layer } of trained) {
    const gradient = (grads as Readonly<Record<string, Tensor | undefined>>)[tensorAt(p, key).name];
    if (!gradient) throw withoutGradient(layer.site.path, key);
    gradients[key] = layer.gradient?.(name, gradient, valuesOf(layer, p)) ?? gradient;
  }
  return { loss: reported, gradients };
}

function withoutGradient(path: string, key: string): TrainingError {
  return new TrainingError(
    `'${path}' is adapted, but the model's loss does not depend on it; leave it out by excludeModules`,
    key,
  );
}

/** Where a parameter has a learning rate of its own: every optimizer of TensorFlow.js moves it in proportion to its rate. */
function furtherSteps(
  { rateFactors }: Run,
  optimizer: Optimizer,
  trained: readonly TrainedTensor[],
  previous: Tensors,
  p: Tensors,
): Tensors {
  const factors = trained.map(({ key, group, rateFactor = 1, learningRate }) => {
    const asOthers = rateFactor * (rateFactors[group] ?? 1);
    return [key, learningRate === undefined ? asOthers : learningRate / rateOf(optimizer)] as const;
  });
  const further = factors.filter(([, factor]) => factor !== 1);
  return Object.fromEntries(
    further.map(([key, factor]) => {
      const from = tensorAt(previous, key);
      return [key, tf.add(from, tf.mul(tf.sub(tensorAt(p, key), from), factor))];
    }),
  );
}

/** What the layers' rules after the optimizer change. */
function ruled(layers: AdapterLayers, previous: Tensors, p: Tensors, gradients: Tensors, ctx: StepContext): Tensors {
  const changed: Tensors = {};
  for (const layer of Object.values(layers)) {
    if (!layer.update) continue;
    const at = { previous: valuesOf(layer, previous), gradient: valuesOf(layer, gradients), ctx };
    for (const [name, value] of Object.entries(layer.update(valuesOf(layer, p), at))) {
      changed[tensorKey(layer, name)] = value;
    }
  }
  return changed;
}

/** What the controller changes. @throws UnsupportedError when it changes ranks: the optimizer holds moments of the former shape. */
function controlled(controller: Controller, step: number, p: Tensors): Tensors {
  const names = controller.reads(step);
  if (names.length === 0) return {};
  const seen: HostTensors = Object.fromEntries(names.map((name) => [name, hostOf(tensorAt(p, name))]));
  const { values = {}, resized = {} } = controller.afterStep(step, seen) ?? {};
  const [path] = Object.keys(resized);
  if (path !== undefined) {
    throw new UnsupportedError(
      `step ${step} changes the ranks of '${path}', which a model's own fit cannot: its optimizer goes on with the tensors that it began with. Configure the method without it`,
      path,
    );
  }
  return Object.fromEntries(Object.entries(values).map(([key, value]) => [key, tensorOf(value)]));
}

function assign(variables: Readonly<Record<string, tf.LayerVariable>>, values: Tensors): void {
  for (const [key, value] of Object.entries(values)) variableOf(tensorAt(variables, key)).assign(value);
}

function tensorOf({ data, shape }: HostTensor): Tensor {
  return tf.tensor(data, [...shape], 'float32');
}

function hostOf(tensor: Tensor): HostTensor {
  return { dtype: 'float32', shape: tensor.shape, data: tensor.dataSync<'float32'>() };
}
