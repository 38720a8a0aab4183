import * as tf from '@tensorflow/tfjs';
import type { Tensor, Tensor3D, Tensor4D } from '@tensorflow/tfjs';

/** How a convolution goes over an image, as TensorFlow.js works it out. */
export type ConvolutionInfo = ReturnType<typeof tf.backend_util.computeConv2DInfo>;

/** What a convolution does along one axis of the image. */
interface Axis {
  readonly size: number;
  readonly before: number;
  readonly after: number;
  readonly places: number;
  readonly kernel: number;
  readonly stride: number;
  readonly dilation: number;
}

/*
 * Rows of patches, of an image [batch, height, width, channels]:
 *
 *   1. padded to whole strides       [batch, rows * s, columns * s', channels]
 *   2. one image for each phase      [s', s, batch, rows, columns * channels]      p = x mod s of a pixel; no copy for s = 1
 *   3. a window for each place       [batch, outHeight, outWidth * channels]       of the kernel: place i d = q s + p
 *   4. beside one another            [batch * outHeight * outWidth, places * channels]
 *
 * Pads, slices, transposes and reshapes of few axes and long runs: every backend has them and their gradients, and quickly.
 */

/**
 * What a convolution's kernel sees at each of its places, `[batch * outHeight * outWidth, height * width * channels]`. A kernel
 * `[height, width, channels, out]` is then the matrix of its numbers in their order.
 */
export function patchRows(image: Tensor4D, info: ConvolutionInfo): Tensor {
  const [batch, , , channels] = image.shape;
  const { vertical, horizontal } = axesOf(info);
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

function axesOf(info: ConvolutionInfo): { vertical: Axis; horizontal: Axis } {
  const { top, bottom, left, right } = info.padInfo;
  return {
    vertical: {
      size: info.inHeight,
      before: top,
      after: bottom,
      places: info.outHeight,
      kernel: info.filterHeight,
      stride: info.strideHeight,
      dilation: info.dilationHeight,
    },
    horizontal: {
      size: info.inWidth,
      before: left,
      after: right,
      places: info.outWidth,
      kernel: info.filterWidth,
      stride: info.strideWidth,
      dilation: info.dilationWidth,
    },
  };
}

/** The image with the convolution's padding, and more at the end for whole strides. */
function padFor(image: Tensor4D, vertical: Axis, horizontal: Axis): Tensor4D {
  const [below, beside] = [padAfter(vertical), padAfter(horizontal)];
  if (vertical.before + below + horizontal.before + beside === 0) return image;
  const pads: [[number, number], [number, number]] = [
    [vertical.before, below],
    [horizontal.before, beside],
  ];
  return tf.pad(image, [[0, 0], ...pads, [0, 0]]);
}

function padAfter({ size, before, after, places, kernel, stride, dilation }: Axis): number {
  const [last] = split((kernel - 1) * dilation, stride);
  const needed = Math.max(before + size + after, (last + places) * stride);
  return Math.ceil(needed / stride) * stride - before - size;
}

/** Every `stride`th pixel from each corner on, as a look-up: `[batch, rows, columns * channels]`. */
function phasesOf(padded: Tensor4D, down: number, right: number): (row: number, column: number) => Tensor3D {
  const [batch, height, width, channels] = padded.shape;
  const [rows, columns] = [height / down, width / right];
  const byRow = apart(padded, [batch * rows, down, width * channels]); // [s, batch * rows * width * channels]
  const byBoth = apart(byRow, [down * batch * rows * columns, right, channels]); // [s', s * batch * rows * columns * channels]
  const flat = tf.reshape(byBoth, [right * down, batch * rows * columns * channels]);
  const phases = right * down === 1 ? [flat] : tf.split(flat, right * down, 0); // of one piece it has no gradient
  const images = phases.map((phase) => tf.reshape<tf.Rank.R3>(phase, [batch, rows, columns * channels]));
  return (row, column) => images[column * down + row] as Tensor3D;
}

/** The middle axis first: [a, s, b] -> [s, a, b]. */
function apart(x: Tensor, [outer, stride, inner]: readonly [number, number, number]): Tensor {
  return stride === 1 ? x : tf.transpose(tf.reshape(x, [outer, stride, inner]), [1, 0, 2]);
}

/** Quotient and rest. */
function split(offset: number, stride: number): [number, number] {
  return [Math.floor(offset / stride), offset % stride];
}
