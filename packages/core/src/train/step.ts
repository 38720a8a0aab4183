import * as tf from '@tensorflow/tfjs';
import type { Scalar, Tensor } from '@tensorflow/tfjs';
import { forward } from '../adapter/scope.js';
import { tensorKey, valuesOf } from '../adapter/peft-model.js';
import { TrainingError } from '../errors.js';
import type { AdapterLayer, AdapterLayers, ParamSpec, StepContext } from '../contracts/method.js';
import type { DataKind, Model } from '../contracts/model.js';
import { mapValues, type Tensors } from '../tensors.js';
import { objectiveLoss } from './loss.js';
import { dropoutFrom, noiseKey } from './noise.js';
import { adamW, clipFactor, type AdamWConfig, type Moments } from './optimizer.js';

/** What a training step is made of, apart from its tensors. */
export interface StepDefinition {
  readonly model: Model;
  /** Every layer that is trained, saved modules included. */
  readonly layers: AdapterLayers;
  /** Number of the adapter's own layers. */
  readonly adapted: number;
  readonly objective: DataKind;
  readonly optimizer: AdamWConfig;
  /** Largest global norm of the gradients; null for no clipping. */
  readonly clipNorm: number | null;
  /** Groups whose gradients neither count in the norm nor are clipped. */
  readonly unclippedGroups: readonly string[];
}

/** The tensors of a step, by kind and then by name. */
export interface StepInputs {
  /** The batch's inputs and host look-ups. */
  readonly inputs: Tensors;
  readonly labels: Tensor;
  readonly rowWeights: Tensor;
  readonly frozen: Tensors;
  /** Trained and untrained tensors of the layers, by `<path>.<name>`. */
  readonly adapter: Tensors;
  readonly moment1: Tensors;
  readonly moment2: Tensors;
  /** `learningRate.<group>`, `correction1`, `correction2`, and the controller's. */
  readonly scalars: Tensors;
}

/** The tensors of a step that are not the batch's. */
type StateInputs = Pick<StepInputs, 'adapter' | 'moment1' | 'moment2' | 'scalars'>;

export interface StepOutputs {
  /** The loss on the data alone. */
  readonly loss: Tensor;
  /** What is minimised: the loss and the layers' own terms. */
  readonly objective: Tensor;
  /** Norm of each trained tensor's gradient before clipping, in the order of `trainedTensors`. */
  readonly gradientNorms: Tensor;
  /** Only the tensors that a step changes. */
  readonly adapter: Tensors;
  readonly moment1: Tensors;
  readonly moment2: Tensors;
}

/** What a part of a step's batch is computed from. */
export type PartInputs = Omit<StepInputs, 'moment1' | 'moment2'> & {
  /** The part's own share in the whole: all of them sum to 1. */
  readonly share: Tensor;
  /** Sums over the parts before. */
  readonly sums: PartSums;
};

/** Loss, objective and gradients, summed over parts by their shares. */
export interface PartSums {
  readonly loss: Tensor;
  readonly objective: Tensor;
  /** By the keys of `trainedTensors`. */
  readonly gradients: Tensors;
}

/** A trained tensor and the layer it belongs to. */
export interface TrainedTensor extends Omit<ParamSpec, 'initial' | 'trainable'> {
  readonly key: string;
  readonly name: string;
  readonly layer: AdapterLayer;
}

/** The trained tensors of layers, in a fixed order. */
export function trainedTensors(layers: AdapterLayers): TrainedTensor[] {
  return Object.values(layers).flatMap((layer) =>
    Object.entries(layer.params)
      .filter(([, spec]) => spec.trainable)
      .map(([name, spec]) => ({ ...spec, key: tensorKey(layer, name), name, layer })),
  );
}

/** Forward, backward, clipping, AdamW, then each layer's own rule: one pure function from state to state. */
export function trainStep(definition: StepDefinition, inputs: StepInputs): StepOutputs {
  return advance(definition, inputs, differentiate(definition, inputs));
}

/** Forward and backward of a part of a step's batch, added to what the parts before came to. */
export function addPart(definition: StepDefinition, { share, sums, ...inputs }: PartInputs): PartSums {
  const { loss, objective, gradients } = differentiate(definition, inputs);
  const added = (sum: Tensor, value: Tensor): Tensor => tf.add(sum, tf.mul(value, share));
  return {
    loss: added(sums.loss, loss),
    objective: added(sums.objective, objective),
    gradients: mapValues(gradients, (gradient, key) => added(take(sums.gradients, key), gradient)),
  };
}

/** The rest of a step, from the gradients on. */
export function advance(
  definition: StepDefinition,
  inputs: StateInputs,
  { loss, objective, gradients: raw }: PartSums,
): StepOutputs {
  const trained = trainedTensors(definition.layers);
  const ctx = stepContext(inputs.scalars, definition.adapted, true);
  const gradients = shaped(trained, raw, inputs.adapter);
  const gradientNorms = tf.stack(trained.map(({ key }) => euclideanNorm(take(gradients, key)))); // [tensors]
  const clipped = clip(definition, trained, gradients, gradientNorms);
  const proposed = propose(definition, inputs, trained, clipped);
  const adapter = applyRules(definition.layers, inputs.adapter, proposed.adapter, clipped, ctx);
  return { loss, objective, gradientNorms, ...proposed, adapter };
}

/** The context in which layers run. */
export function stepContext(scalars: Tensors, layers: number, training: boolean): StepContext {
  return {
    training,
    layers,
    dropout(name, x, rate) {
      if (!training || rate === 0) return x;
      return dropoutFrom(take(scalars, noiseKey(name)), x, rate);
    },
    scalar(name) {
      const value = scalars[name];
      if (!value) throw new TrainingError(`a layer asks for the scalar '${name}', which no controller feeds`, name);
      return value as Scalar;
    },
    rowsOf: (adapter) => take(scalars, rowsKey(adapter)),
  };
}

/** What the mask of an adapter's rows in a mixed batch is called among the scalars of a step. */
export function rowsKey(adapter: string): string {
  return `rows.${adapter}`;
}

function differentiate(
  { model, layers, adapted, objective: kind }: StepDefinition,
  { inputs, labels, rowWeights, frozen, adapter, scalars }: Omit<StepInputs, 'moment1' | 'moment2'>,
): PartSums {
  const trained = trainedTensors(layers);
  const ctx = stepContext(scalars, adapted, true);
  let loss: Tensor | undefined;
  const objectiveOf = (): Scalar => {
    const outputs = forward(model, layers, { inputs, frozen, adapter }, ctx);
    const own = objectiveLoss(kind, outputs, { labels, rowWeights, attentionMask: inputs.attentionMask });
    loss = tf.keep(tf.clone(own)); // survives the tape's scope; handed over below
    const terms = Object.values(layers).flatMap((layer) => layer.loss?.(valuesOf(layer, adapter), ctx) ?? []);
    return terms.reduce((sum: Scalar, term) => tf.add(sum, term), own);
  };
  const at = trained.map(({ key }) => take(adapter, key));
  const { value: objective, grads } = tf.engine().gradients(objectiveOf, at, undefined, true);
  const kept = loss as unknown as Tensor;
  const reported = tf.clone(kept);
  kept.dispose();
  const gradients = trained.map((tensor, index) => [tensor.key, reached(tensor, grads[index])] as const);
  return { loss: reported, objective, gradients: Object.fromEntries(gradients) };
}

function reached({ key, layer }: TrainedTensor, gradient: Tensor | undefined): Tensor {
  if (gradient) return gradient;
  throw new TrainingError(
    `'${layer.site.path}' is adapted, but the model's output does not depend on it; leave it out by excludeModules`,
    key,
  );
}

/** Gradients after their layers' own say in them. */
function shaped(trained: readonly TrainedTensor[], gradients: Tensors, adapter: Tensors): Tensors {
  return Object.fromEntries(
    trained.map(({ key, name, layer }) => {
      const gradient = take(gradients, key);
      return [key, layer.gradient?.(name, gradient, valuesOf(layer, adapter)) ?? gradient];
    }),
  );
}

/** `tf.norm` takes absolute values and powers first: two passes more over every gradient. */
function euclideanNorm(x: Tensor): Scalar {
  return tf.sqrt(tf.sum<Scalar>(tf.square(x)));
}

function clip(
  { clipNorm, unclippedGroups }: StepDefinition,
  trained: readonly TrainedTensor[],
  gradients: Tensors,
  norms: Tensor,
): Tensors {
  if (clipNorm === null) return gradients;
  const counts = trained.map(({ group }) => !unclippedGroups.includes(group));
  const counted = counts.every(Boolean) ? norms : tf.mul(norms, tf.tensor1d(counts.map(Number)));
  const factor = clipFactor(counted, clipNorm);
  return Object.fromEntries(
    trained.map(({ key }, index) => [key, counts[index] ? tf.mul(take(gradients, key), factor) : take(gradients, key)]),
  );
}

/** What the optimizer alone would do. */
function propose(
  { optimizer }: StepDefinition,
  { adapter, moment1, moment2, scalars }: StateInputs,
  trained: readonly TrainedTensor[],
  gradients: Tensors,
): Pick<StepOutputs, 'adapter' | 'moment1' | 'moment2'> {
  const next = { adapter: {} as Tensors, moment1: {} as Tensors, moment2: {} as Tensors };
  const corrections = {
    correction1: take(scalars, 'correction1') as Scalar,
    correction2: take(scalars, 'correction2') as Scalar,
  };
  for (const { key, decay, ...tensor } of trained) {
    const at: Moments = { value: take(adapter, key), moment1: take(moment1, key), moment2: take(moment2, key) };
    const rates = { ...corrections, learningRate: rateOf(tensor, scalars) };
    const config = decay ? optimizer : { ...optimizer, weightDecay: 0 };
    const step = adamW(at, take(gradients, key), rates, config);
    next.adapter[key] = step.value;
    next.moment1[key] = step.moment1;
    next.moment2[key] = step.moment2;
  }
  return next;
}

function rateOf(
  { group, rateFactor = 1, learningRate }: Pick<TrainedTensor, 'group' | 'rateFactor' | 'learningRate'>,
  scalars: Tensors,
): Scalar {
  if (learningRate !== undefined) return tf.scalar(learningRate);
  const groupRate = take(scalars, `learningRate.${group}`) as Scalar;
  return rateFactor === 1 ? groupRate : tf.mul<Scalar>(groupRate, rateFactor);
}

/** The layers' rules after the optimizer, e.g. SoRA's proximal step. */
function applyRules(
  layers: AdapterLayers,
  previous: Tensors,
  proposed: Tensors,
  gradients: Tensors,
  ctx: StepContext,
): Tensors {
  const next = { ...proposed };
  for (const layer of Object.values(layers)) {
    if (!layer.update) continue;
    const changed = layer.update(valuesOf(layer, { ...previous, ...proposed }), {
      previous: valuesOf(layer, previous),
      gradient: valuesOf(layer, gradients),
      ctx,
    });
    for (const [name, value] of Object.entries(changed)) next[tensorKey(layer, name)] = value;
  }
  return next;
}

function take(tensors: Tensors, key: string): Tensor {
  const tensor = tensors[key];
  if (!tensor) throw new TrainingError(`the step needs the tensor '${key}', which it was not given`, key);
  return tensor;
}
