import type { ForwardContext } from '@peftjs/core/method';
import { fromRows, linear, toRows } from '@peftjs/core/nn';
import * as tf from '@tensorflow/tfjs';
import type { Tensor, Tensor3D, Tensor4D } from '@tensorflow/tfjs';

/** A layer's frozen weights. */
export interface Frozen {
  /** The weight as a matrix `[in, out]`. */
  readonly weight: Tensor;
  /** The bias `[out]`, if there is one. */
  readonly bias?: Tensor | undefined;
}

/** A layer's computation on one input before its activation, as a linear map of rows. */
interface Product {
  /** Returns the input of the map, `[rows, in]`. */
  rows(): Tensor;
  /** Computes `[rows, out]`, with some tensors replaced. */
  readonly run: ForwardContext['run'];
  /** Reshapes `[rows, out]` to the layer's output. */
  output(rows: Tensor): Tensor;
}

/** Returns a layer's linear map for an input. */
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

/** The settings of a Conv2D layer. */
interface Convolution {
  readonly kernelSize: readonly [number, number];
  readonly strides: [number, number];
  readonly padding: 'same' | 'valid';
  readonly dataFormat: 'channelsFirst' | 'channelsLast';
  readonly dilationRate: [number, number];
}

/**
 * Conv2D: a linear map of patches with the kernel `[height * width * channels, out]` as its weight. With the layer's
 * own input and weight, it is computed as a convolution. With a replaced input or weight, it is computed as a product
 * with the patches, whose gradient every backend has. So are dilated convolutions, because TensorFlow.js has no
 * gradient for them.
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

/** The geometry of a convolution, as computed by TensorFlow.js. */
type ConvolutionInfo = ReturnType<typeof tf.backend_util.computeConv2DInfo>;

/*
 * Computes rows of patches of an image [batch, height, width, channels]:
 *
 *   1. padded to whole strides       [batch, rows * s, columns * s', channels]
 *   2. one image for each phase      [s', s, batch, rows, columns * channels]      p = x mod s; no copy for s = 1
 *   3. a window for each offset      [batch, outHeight, outWidth * channels]       in the kernel: offset i d = q s + p
 *   4. side by side                  [batch * outHeight * outWidth, offsets * channels]
 *
 * It only uses pads, slices, transposes and reshapes of few axes and long runs, which every backend computes fast, with
 * gradients.
 */

/**
 * Returns the patch under the kernel at each output, `[batch * outHeight * outWidth, height * width * channels]`. A
 * kernel `[height, width, channels, out]`, reshaped to a matrix, multiplies it.
 */
export function patchRows(image: Tensor4D, info: ConvolutionInfo): Tensor {
  const [batch, , , channels] = image.shape;
  const [vertical, horizontal] = [axisOf(info, 'Height'), axisOf(info, 'Width')];
  const padded = padFor(image, vertical, horizontal); // [batch, rows * s, columns * s', channels]
  const phases = phasesOf(padded, vertical.stride, horizontal.stride);
  const windows: Tensor[] = [];
  for (let i = 0; i < vertical.kernel; i++) {
    const [down, row] = split(i * vertical.dilation, vertical.stride);
    for (let j = 0; j < horizontal.kernel; j++) {
      const [right, column] = split(j * horizontal.dilation, horizontal.stride);
      const phase = phases(row, column); // [batch, rows, columns * channels]
      const size: [number, number, number] = [batch, vertical.places, horizontal.places * channels];
      windows.push(tf.slice(phase, [0, down, right * channels], size));
    }
  }
  const places = batch * vertical.places * horizontal.places;
  const stacked = tf.reshape(tf.concat(windows, 0), [windows.length, places, channels]);
  return tf.reshape(tf.transpose(stacked, [1, 0, 2]), [places, windows.length * channels]);
}

/** The geometry of a convolution along one axis of the image, in pixels; `places` is the number of outputs. */
type Axis = ReturnType<typeof axisOf>;

function axisOf({ padInfo, ...info }: ConvolutionInfo, side: 'Height' | 'Width') {
  const [before, after] = side === 'Height' ? [padInfo.top, padInfo.bottom] : [padInfo.left, padInfo.right];
  return {
    ...{ before, after },
    size: info[`in${side}`],
    places: info[`out${side}`],
    kernel: info[`filter${side}`],
    stride: info[`stride${side}`],
    dilation: info[`dilation${side}`],
  };
}

/** Pads an image for the convolution, and at the end to whole strides. */
function padFor(image: Tensor4D, vertical: Axis, horizontal: Axis): Tensor4D {
  const [bottom, right] = [padAfter(vertical), padAfter(horizontal)];
  if (vertical.before + bottom + horizontal.before + right === 0) return image;
  const pads: [[number, number], [number, number]] = [
    [vertical.before, bottom],
    [horizontal.before, right],
  ];
  return tf.pad(image, [[0, 0], ...pads, [0, 0]]);
}

function padAfter({ size, before, after, places, kernel, stride, dilation }: Axis): number {
  const [last] = split((kernel - 1) * dilation, stride);
  const needed = Math.max(before + size + after, (last + places) * stride);
  return Math.ceil(needed / stride) * stride - before - size;
}

/** Returns a lookup of the pixels at each phase of the strides, `[batch, rows, columns * channels]`. */
function phasesOf(padded: Tensor4D, down: number, right: number): (row: number, column: number) => Tensor3D {
  const [batch, height, width, channels] = padded.shape;
  const [rows, columns] = [height / down, width / right];
  const byRow = apart(padded, [batch * rows, down, width * channels]); // [s, batch * rows * width * channels]
  // [s', s * batch * rows * columns * channels]
  const byBoth = apart(byRow, [down * batch * rows * columns, right, channels]);
  const flat = tf.reshape(byBoth, [right * down, batch * rows * columns * channels]);
  // A split into one piece has no gradient.
  const phases = right * down === 1 ? [flat] : tf.split(flat, right * down, 0);
  const images = phases.map((phase) => tf.reshape<tf.Rank.R3>(phase, [batch, rows, columns * channels]));
  return (row, column) => images[column * down + row] as Tensor3D;
}

/** Moves the middle axis to the front: [a, s, b] -> [s, a, b]. */
function apart(x: Tensor, [outer, stride, inner]: readonly [number, number, number]): Tensor {
  return stride === 1 ? x : tf.transpose(tf.reshape(x, [outer, stride, inner]), [1, 0, 2]);
}

/** Returns quotient and remainder. */
function split(offset: number, stride: number): [number, number] {
  return [Math.floor(offset / stride), offset % stride];
}
