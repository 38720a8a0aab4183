import type { ForwardContext } from '@peftjs/core';
import { fromRows, linear, toRows } from '@peftjs/core/nn';
import * as tf from '@tensorflow/tfjs';
import type { Tensor, Tensor4D } from '@tensorflow/tfjs';
import { patchRows } from './patches.js';

/** A layer's weight as a matrix `[in, out]`, and its bias `[out]`. */
export interface Frozen {
  readonly weight: Tensor;
  readonly bias?: Tensor | undefined;
}

/** What a layer does to one input before its activation, as a linear map of rows. */
interface Product {
  /** What the map reads, `[rows, in]`. */
  rows(): Tensor;
  /** `[rows, out]`, with some tensors in the place of the layer's own. */
  readonly run: ForwardContext['run'];
  /** `[rows, out]` in the shape that the layer gives. */
  output(rows: Tensor): Tensor;
}

/** A layer's product with an input. */
export type ProductOf = (x: Tensor, frozen: Frozen) => Product;

/** Dense: `[.., in]` -> `[.., out]`. */
export const denseProduct: ProductOf = (x, { weight, bias }) => {
  const rows = toRows(x); // [.., in] -> [rows, in]
  return {
    rows: () => rows,
    run: (instead) => linear(instead.x ?? rows, instead.weight ?? weight, instead.bias ?? bias),
    output: (y) => fromRows(y, x.shape),
  };
};

/** How a Conv2D goes over its input. */
interface Convolution {
  readonly kernelSize: readonly [number, number];
  readonly strides: [number, number];
  readonly padding: 'same' | 'valid';
  readonly dataFormat: 'channelsFirst' | 'channelsLast';
  readonly dilationRate: [number, number];
}

/**
 * Conv2D: a linear map of patches, whose weight is the kernel `[height * width * channels, out]`. As the layer has it, it is
 * computed as the convolution that it is; with another input or weight as a product with the patches, whose gradient every
 * backend has. So is a dilated one, since TensorFlow.js has no gradient of it.
 */
export function convolutionProduct(layer: tf.layers.Layer): ProductOf {
  const { kernelSize, strides, padding, dataFormat, dilationRate } = layer.getConfig() as unknown as Convolution;
  const last = dataFormat === 'channelsLast';
  const dilated = dilationRate.some((rate) => rate > 1);
  return (x, { weight, bias }) => {
    const image = (last ? x : tf.transpose(x, [0, 2, 3, 1])) as Tensor4D; // [batch, height, width, channels]
    const outFeatures = weight.shape[1] as number;
    const filter = [...kernelSize, image.shape[3], outFeatures] as [number, number, number, number];
    const info = tf.backend_util.computeConv2DInfo(image.shape, filter, strides, dilationRate, padding);
    let rows: Tensor | undefined;
    const seen = (): Tensor => (rows ??= patchRows(image, info)); // [rows, in]
    return {
      rows: seen,
      run(instead) {
        const added = instead.bias ?? bias;
        if (instead.x ?? instead.weight ?? dilated) {
          return linear(instead.x ?? seen(), instead.weight ?? weight, added);
        }
        const kernel = tf.reshape<tf.Rank.R4>(weight, filter);
        const y = tf.reshape(tf.conv2d(image, kernel, strides, padding), [-1, outFeatures]); // [rows, out]
        return added ? tf.add(y, added) : y;
      },
      output(y) {
        const places = tf.reshape(y, [image.shape[0], info.outHeight, info.outWidth, outFeatures]);
        return last ? places : tf.transpose(places, [0, 3, 1, 2]);
      },
    };
  };
}
