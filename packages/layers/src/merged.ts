import { mergeAndUnload, UnsupportedError, type HostTensor, type HostTensors, type MergeOptions } from '@peftjs/core';
import * as tf from '@tensorflow/tfjs';
import type { Attachment } from './attachment.js';
import { kernelLayer, replaceMethod, savedWeights, variableOf } from './tfjs-layers.js';

/** A weight that the model's files hold, and whether it was trained before adapters came. */
export interface SavedWeight {
  readonly weight: tf.LayerVariable;
  readonly trainable: boolean;
}

/** Lets `save` of a model write its adapters merged into its weights. @returns what undoes it */
export function saveMerged(attachment: Attachment, weights: readonly SavedWeight[]): () => void {
  const { model } = attachment;
  const { save } = model;
  return replaceMethod(model, 'save', async (handler, config) => {
    if (config?.includeOptimizer) {
      throw new UnsupportedError(
        "the optimizer's state is that of the adapters, which a merged model does not have: save without includeOptimizer",
        'includeOptimizer',
      );
    }
    const merged = mergedWeights(attachment);
    const wanted = weights.filter(({ trainable }) => trainable || !config?.trainableOnly);
    const named = wanted.map(({ weight }) => ({
      name: weight.originalName,
      tensor: merged.get(weight) ?? weight.read(),
    }));
    const copy = Object.create(model) as tf.LayersModel;
    savedWeights(copy).getNamedWeights = () => named;
    try {
      return await save.call(copy, handler, config);
    } finally {
      tf.dispose([...merged.values()]);
    }
  });
}

/** Writes the merged weights into the layers. @throws what `mergeAndUnload` throws; nothing has changed then. */
export function mergeIntoLayers(attachment: Attachment, options: MergeOptions): void {
  const merged = mergedWeights(attachment, options);
  for (const [weight, value] of merged) {
    variableOf(weight).assign(value);
    value.dispose();
  }
}

/** What merging changes, by the weight whose place it takes; the caller disposes of it. */
function mergedWeights({ peft, modules }: Attachment, options?: MergeOptions): Map<tf.LayerVariable, tf.Tensor> {
  const { weights } = mergeAndUnload(peft, options);
  const changed = (name: string): HostTensor | undefined =>
    weights[name] === (peft.model.weights as Partial<HostTensors>)[name] ? undefined : weights[name];
  return new Map(
    modules.flatMap(({ layer, site: { path } }) => {
      const { kernel, bias } = kernelLayer(layer);
      return [
        [kernel, changed(`${path}.weight`)] as const,
        ...(bias ? [[bias, changed(`${path}.bias`)] as const] : []),
      ].flatMap(([weight, value]) => (value ? [[weight, inShape(value, weight)] as const] : []));
    }),
  );
}

function inShape({ data }: HostTensor, like: tf.LayerVariable): tf.Tensor {
  return tf.tensor(data, like.shape as number[], 'float32');
}
