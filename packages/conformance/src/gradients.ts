import * as tf from '@tensorflow/tfjs-core';
import type { Scalar } from '@tensorflow/tfjs-core';
import { activeAdapter, type PeftModel, type TrainOptions } from '@peftjs/core';
import {
  TrainingError,
  allLayers,
  createRng,
  floats,
  grouped,
  mapValues,
  tensorAt,
  type HostTensors,
  type Tensors,
} from '@peftjs/core/method';
import { valuesOf, type Adapter } from '@peftjs/core/model';
import {
  defaultLoss,
  drawNoise,
  forward,
  frozenWeights,
  modelInputs,
  networkDropout,
  stepContext,
  trainedTensors,
} from '@peftjs/core/runtime';
import { tensorsOf } from './single-layer.js';
import { toyTrainingData } from './toy-model.js';

/** The dropout of the network, as `train` takes it. */
type NetworkDropout = NonNullable<TrainOptions['dropout']>;

/**
 * The slope of the loss along a direction of length 1 in all tensors of one kind, e.g. every `loraA` of a linear
 * module.
 */
export interface Slope {
  /** The kind of tensor, e.g. 'loraA of linear'. */
  readonly kind: string;
  /** The direction, by the tensors' keys. */
  readonly direction: Readonly<Record<string, Float32Array>>;
  /** The slope, by finite differences. */
  readonly value: number;
  /** The largest error of `value` that follows from rounding the loss to float32. */
  readonly rounding: number;
}

/**
 * Returns the gradients of the toy loss, layers' terms included, computed by TensorFlow.js's tape.
 * @param dropout the network's own dropout. Default 0: none
 */
export function gradientsByTape(peft: PeftModel, dropout: NetworkDropout = 0): Record<string, Float32Array> {
  const names = trainedTensors(allLayers(activeAdapter(peft))).map(({ key }) => key);
  return tf.tidy(() => {
    const [loss, tensors] = [toyLoss(peft, dropout), tensorsOf(activeAdapter(peft).values)];
    const at = names.map((name) => tensors[name] as tf.Tensor);
    const { grads } = tf.engine().gradients(() => loss(tensors), at);
    return Object.fromEntries(
      names.map((name, index) => [name, (grads[index] as tf.Tensor).dataSync() as Float32Array]),
    );
  });
}

/**
 * Returns the loss's slope along one direction per kind of tensor. It uses differences over four points, whose error is
 * of fourth order in the step.
 * @param along the direction by the tensors' keys, of any length, e.g. the gradient. Default: random, so that every
 *   element takes part
 */
export function slopesByDifferences(peft: PeftModel, dropout: NetworkDropout = 0, along?: Slope['direction']): Slope[] {
  const rng = createRng(5);
  const step = along ? 3e-3 : 1e-2; // the loss bends most along its gradient
  return tf.tidy(() => {
    const loss = toyLoss(peft, dropout);
    const { values: all } = activeAdapter(peft);
    const trained = trainedTensors(allLayers(activeAdapter(peft)));
    const kinds = grouped(trained, ({ name, layer }) => `${name} of ${layer.site.kind}`);
    return [...kinds].map(([kind, tensors]) => {
      const keys = tensors.map(({ key }) => key);
      const direction = ofLength1(
        Object.fromEntries(
          keys.map((key) => [
            key,
            along ? tensorAt(along, key) : floats(tensorAt(all, key), key).map(() => rng.normal()),
          ]),
        ),
      );
      const at = (shift: number): number => lossAt(loss, { ...all, ...moved(direction, all, shift) });
      const [ahead, behind] = [at(step), at(-step)];
      const [wide, narrow] = [(ahead - behind) / (2 * step), (at(step / 2) - at(-step / 2)) / step];
      const rounding = (3e-7 / step) * Math.max(1, Math.abs(ahead));
      return { kind, direction, value: (4 * narrow - wide) / 3, rounding };
    });
  });
}

/** Scales a direction to length 1. Zeros stay zeros. */
function ofLength1(direction: Slope['direction']): Record<string, Float32Array> {
  const length = Math.hypot(...Object.values(direction).flatMap((part) => [...part])) || 1;
  return mapValues(direction, (part) => part.map((x) => x / length));
}

function moved(direction: Slope['direction'], values: HostTensors, shift: number): HostTensors {
  return mapValues(direction, (part, key) => {
    const tensor = tensorAt(values, key);
    return { ...tensor, data: floats(tensor, key).map((value, place) => value + shift * (part[place] as number)) };
  });
}

function lossAt(loss: (values: Tensors) => Scalar, values: HostTensors): number {
  return tf.tidy(() => loss(tensorsOf(values)).dataSync()[0] as number);
}

/**
 * Returns the loss on the toy data as a function of the adapter's values. Constants are made once, in the caller's
 * tidy.
 */
function toyLoss(peft: PeftModel, dropout: NetworkDropout): (values: Tensors) => Scalar {
  const { model } = peft;
  const adapter = activeAdapter(peft);
  const layers = allLayers(adapter);
  const [batch] = toyTrainingData().epoch(0);
  if (!batch) throw new TrainingError('the toy data has no batch');
  const rates = networkDropout(model, dropout);
  const noise = tensorsOf(drawNoise(layers, createRng(7), rates)); // the same dropout at every call
  const ctx = stepContext({ ...noise, ...firstScalars(adapter) }, Object.keys(adapter.layers).length, true, rates);
  const inputs = tensorsOf(modelInputs(model, layers, batch));
  const frozen = tensorsOf(frozenWeights(model, layers));
  const { labels, rowWeights } = tensorsOf({ labels: batch.labels, rowWeights: batch.rowWeights });
  return (values) => {
    const outputs = forward(model, layers, { inputs, frozen, adapter: values }, ctx);
    const own = defaultLoss('classification').loss(outputs, {
      inputs,
      labels: labels as tf.Tensor,
      rowWeights: rowWeights as tf.Tensor,
    });
    const terms = Object.values(layers).flatMap((layer) => layer.loss?.(valuesOf(layer, values), ctx) ?? []);
    return terms.reduce((sum: Scalar, term) => tf.add(sum, term), own);
  };
}

/** Returns the controller's scalars at the first step of a run. */
function firstScalars({ method, config, layers }: Adapter): Tensors {
  const learningRates = Object.fromEntries(trainedTensors(layers).map(({ group }) => [group, 0.01]));
  const plan = { totalSteps: 100, warmupSteps: 0, finalSteps: 10 };
  const scalars = method.controller?.(layers, config, plan)?.scalars(1, learningRates) ?? {};
  return mapValues(scalars, (value) => tf.scalar(value));
}
