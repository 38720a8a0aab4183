import { UnsupportedError, type Tensors } from '@peftjs/core/method';
import { batchInput } from '@peftjs/models/architectures';
import * as tf from '@tensorflow/tfjs-core';
import type { Tensor } from '@tensorflow/tfjs-core';
import type { Graph } from './graph.js';

/** The inputs of exported models, made from those of a batch. */
const INPUTS: Readonly<Record<string, (inputs: Tensors) => Tensor>> = {
  input_ids: (inputs) => batchInput(inputs, 'inputIds'),
  attention_mask: (inputs) => tf.cast(batchInput(inputs, 'attentionMask'), 'int32'),
  // Without token types, all tokens have type 0.
  token_type_ids: (inputs) => inputs['tokenTypeIds'] ?? tf.zeros(batchInput(inputs, 'attentionMask').shape, 'int32'),
  position_ids: positions,
  pixel_values: (inputs) => batchInput(inputs, 'pixelValues'),
};

/**
 * Returns an input of the graph: [batch, tokens] int32, or pixels [batch, channels, height, width]; undefined for a
 * name that is not known.
 */
export function inputNamed(name: string, inputs: Tensors): Tensor | undefined {
  return Object.hasOwn(INPUTS, name) ? INPUTS[name]?.(inputs) : undefined;
}

/** @throws UnsupportedError naming an input that is not known. */
export function assertInputs({ file }: Graph, read: ReadonlySet<string>): void {
  const odd = file.inputs.find(({ name }) => read.has(name) && !Object.hasOwn(INPUTS, name));
  if (odd === undefined) return;
  throw new UnsupportedError(
    `the graph reads '${odd.name}'; known inputs are ${Object.keys(INPUTS).join(', ')}: export the model without caches and with these names`,
    odd.name,
  );
}

/** Positions 0, 1, .. in every row. */
function positions(inputs: Tensors): Tensor {
  const { shape } = batchInput(inputs, 'attentionMask');
  const [batch, tokens] = shape as [number, number];
  return tf.tile(tf.expandDims(tf.range(0, tokens, 1, 'int32'), 0), [batch, 1]);
}
