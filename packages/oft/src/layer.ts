import {
  fixedLayer,
  floats,
  hostZeros,
  tensorAt,
  trained,
  type AdapterLayer,
  type FrozenModule,
  type HostTensor,
  type HostTensors,
  type Rng,
  type Site,
  type Tensors,
} from '@peftjs/core/method';
import { normalValues } from '@peftjs/core/linalg';
import * as tf from '@tensorflow/tfjs-core';
import type { Tensor } from '@tensorflow/tfjs-core';
import type { Matrix } from 'ml-matrix';
import { blocksAt, type OftConfig } from './config.js';
import { projected, projectedOnHost, rotations, rotationsOnHost } from './rotation.js';

/*
 * OFT, orthogonal fine-tuning (Qiu et al., 2023, arXiv 2306.07280), in row vectors, as PEFT 0.21.2 computes it:
 *
 *   y = (x R) W0 + b                    forward, linear        R = diag(R_1, .., R_k) [in, in], blocks [size, size]
 *   y = e R                             forward, embedding     e [.., out], a row of the table
 *   dW = R W0 - W0, W0 R - W0           deltaWeight
 *   R_i = (I - Q_i) (I + Q_i)^-1        the Cayley transform; Q_i is skew-symmetric and starts at zero
 *   R_i = I + 2 Q_i + 2 Q_i^2 + .. + Q_i^(t-1)     the truncated power series of (I + Q_i) (I - Q_i)^-1
 *                                       (Qiu et al., 2025, arXiv 2506.19847)
 *   ||Q_i|| <= eps / sqrt(k)            COFT: Q_i is projected into this ball before every step, without effect on the
 *                                       gradient
 *
 * The trained and stored values are the entries above the diagonals of Q_i, row by row: `oft_R.weight`
 * [k, size (size - 1) / 2], or [1, ..] with `blockShare`. For the same Q, the series rotates in the opposite direction
 * to the transform, as in PEFT.
 */

/** The name of the layer's only tensor. */
export const TENSOR = 'oftR';

/** The standard deviation of the initial values with `initWeights: false`. */
const STD = 0.1;

/** Returns the OFT layer of one module, with its trained bias if configured. */
export function oftLayer(site: Site, config: OftConfig, rng: Rng, frozen: FrozenModule): AdapterLayer {
  const layer = rotation(site, config, rng);
  return config.bias !== 'none' && frozen.bias ? withTrainedBias(layer, frozen.bias) : layer;
}

/** Makes the module's own bias trained. */
function withTrainedBias(layer: AdapterLayer, initial: HostTensor): AdapterLayer {
  return fixedLayer({
    ...layer,
    params: { ...layer.params, bias: trained(initial, { decay: false }) },
    forward: (x, p, at) =>
      layer.forward(x, p, { ...at, run: (instead) => at.run({ ...instead, bias: tensorAt(p, 'bias') }) }),
    mergedBias: (values) => tensorAt(values, 'bias'),
  });
}

function rotation(site: Site, config: OftConfig, rng: Rng): AdapterLayer {
  const { size, count } = blocksAt(site, config);
  const shape = [config.blockShare ? 1 : count, (size * (size - 1)) / 2];
  const start = config.initWeights ? hostZeros(shape) : normalValues(rng.fork(TENSOR), shape, STD);
  const blocks = (p: Tensors): Tensor => rotations(tensorAt(p, TENSOR), size, config);
  const onHost = (values: HostTensors): Matrix[] => rotationsOnHost(tensorAt(values, TENSOR), size, config);
  return fixedLayer({
    site,
    params: { [TENSOR]: trained(config.coft ? projectedOnHost(start, config.eps) : start) },
    ...(config.coft && {
      update: (proposed) => ({ [TENSOR]: projected(tensorAt(proposed, TENSOR), config.eps) }),
    }),
    ...(site.kind === 'embedding'
      ? {
          forward: (_x, p, at) => rotated(at.base(), blocks(p)),
          deltaWeight: (values, { weight }) => rotatedColumns(weight, onHost(values)),
        }
      : {
          ignoresBase: true,
          forward: (x, p, at) => at.run({ x: rotated(x, blocks(p)) }),
          deltaWeight: (values, { weight }) => rotatedRows(weight, onHost(values)),
        }),
  });
}

/** Returns x R for x [.., features] and R [blocks, size, size]. A single block rotates all features. */
function rotated(x: Tensor, blocks: Tensor): Tensor {
  const [count, size] = blocks.shape as [number, number, number];
  const features = x.shape.at(-1) as number;
  if (count === 1) {
    const rows = tf.matMul(tf.reshape(x, [-1, size]), tf.reshape(blocks, [size, size])); // [rows features / size, size]
    return tf.reshape(rows, withRows(x));
  }
  const byBlock = tf.transpose(tf.reshape(x, [-1, count, size]), [1, 0, 2]); // [blocks, rows, size]
  const turned = tf.transpose(tf.matMul(byBlock, blocks), [1, 0, 2]); // [rows, blocks, size]
  return tf.reshape(tf.reshape(turned, [-1, features]), withRows(x));
}

/** Returns the shape of x with an open first axis. */
function withRows({ shape }: Tensor): number[] {
  return [-1, ...shape.slice(1)];
}

/** Returns R W0 - W0 for W0 [in, out]. */
function rotatedRows(weight: HostTensor, blocks: readonly Matrix[]): Float32Array {
  const [rows, columns] = weight.shape as [number, number];
  const values = floats(weight);
  const size = (blocks[0] as Matrix).rows;
  const delta = new Float32Array(rows * columns);
  const sum = new Float64Array(columns);
  for (let row = 0; row < rows; row++) {
    const block = blockAt(blocks, Math.floor(row / size));
    const first = row - (row % size);
    sum.fill(0);
    for (let inner = 0; inner < size; inner++) {
      const factor = block.get(row % size, inner) - (first + inner === row ? 1 : 0);
      for (let column = 0; column < columns; column++) {
        sum[column] = (sum[column] as number) + factor * (values[(first + inner) * columns + column] as number);
      }
    }
    delta.set(sum, row * columns);
  }
  return delta;
}

/** Returns W0 R - W0 for a table [rows, width]. */
function rotatedColumns(weight: HostTensor, blocks: readonly Matrix[]): Float32Array {
  const columns = weight.shape[1] as number;
  const values = floats(weight);
  const size = (blocks[0] as Matrix).rows;
  return values.map((own, index) => {
    const column = index % columns;
    const block = blockAt(blocks, Math.floor(column / size));
    const first = index - (column % size);
    let sum = -own;
    for (let inner = 0; inner < size; inner++) {
      sum += (values[first + inner] as number) * block.get(inner, column % size);
    }
    return sum;
  });
}

function blockAt(blocks: readonly Matrix[], index: number): Matrix {
  return blocks[blocks.length === 1 ? 0 : index] as Matrix;
}
