import {
  changeNoise,
  dropChange,
  fixedLayer,
  floats,
  hostZeros,
  mapValues,
  tensorAt,
  trained,
  type AdapterLayer,
  type HostTensor,
  type HostTensors,
  type Rng,
  type Site,
  type Tensors,
} from '@peftjs/core/method';
import { moduleRank } from '@peftjs/core/ranks';
import { kaimingUniform, matrixProduct } from '@peftjs/core/linalg';
import * as tf from '@tensorflow/tfjs-core';
import type { Tensor } from '@tensorflow/tfjs-core';
import type { LokrConfig } from './config.js';
import { shapesOf, sidesOf, type Shapes, type TensorName } from './shapes.js';

/*
 * LoKr, low-rank Kronecker product (LyCORIS: Yeh et al., 2024, arXiv 2309.14859), in row vectors:
 *
 *   dW = s W1 (x) W2               dW [m n, l k]   W1 [m, l]   W2 [n, k]   (x): Kronecker product   s = alpha / r
 *   y  = x W0 + b + x dW           forward         x [rows, m n]
 *   W2 = W2B W2A                   if r < max(n, k) / 2       W2B [n, r]   W2A [r, k]
 *   W1 = W1B W1A                   in the same way, with `decomposeBoth`
 *
 * x dW is computed without dW: with X [m, n] a row of x, it is W1^T X W2 [l, k] for each row.
 * On disk W1 is `lokr_w1` [l, m], W1A is `lokr_w1_a` [l, r], W1B is `lokr_w1_b` [r, m], and so on.
 */

/** Returns the LoKr layer of one module. */
export function lokrLayer(site: Site, config: LokrConfig, rng: Rng): AdapterLayer {
  const { r, alpha } = moduleRank(config, site.path);
  const scaling = alpha / r;
  const initial = initialTensors(shapesOf(site, r, config), config, rng);
  const { m, l, n, k } = sidesOf(site, config);
  return fixedLayer({
    site,
    scaling,
    params: mapValues(initial, (tensor) => trained(tensor)),
    ...changeNoise(config),
    forward(x, p, at) {
      const byW2 = times(tf.reshape(x, [-1, n]), p, 'lokrW2'); // [rows m, n] -> [rows m, k]
      const turned = tf.transpose(tf.reshape(byW2, [-1, m, k]), [0, 2, 1]); // [rows, k, m]
      const byBoth = times(tf.reshape(turned, [-1, m]), p, 'lokrW1'); // [rows k, m] -> [rows k, l]
      const change = tf.reshape(tf.transpose(tf.reshape(byBoth, [-1, k, l]), [0, 2, 1]), [-1, l * k]); // [rows, out]
      return tf.add(at.base(), dropChange(tf.mul(change, scaling), site, config, at.ctx));
    },
    deltaWeight: (values) => kronecker(factorOf(values, 'lokrW1'), factorOf(values, 'lokrW2'), scaling),
    isIndependent: true,
  });
}

/** Returns x W, where W is whole or the product of two factors. */
function times(x: Tensor, p: Tensors, factor: 'lokrW1' | 'lokrW2'): Tensor {
  const whole = p[factor];
  return whole ? tf.matMul(x, whole) : tf.matMul(tf.matMul(x, tensorAt(p, `${factor}B`)), tensorAt(p, `${factor}A`));
}

/** Returns W on the host, whole or multiplied from its two factors. */
function factorOf(values: HostTensors, factor: 'lokrW1' | 'lokrW2'): HostTensor {
  const whole = values[factor];
  if (whole) return whole;
  return matrixProduct(tensorAt(values, `${factor}B`), tensorAt(values, `${factor}A`));
}

/** Returns s W1 (x) W2, whose entry [i n + j, a k + c] is s W1[i, a] W2[j, c]. */
function kronecker(first: HostTensor, second: HostTensor, scaling: number): Float32Array {
  const [m, l] = first.shape as [number, number];
  const [n, k] = second.shape as [number, number];
  const [w1, w2] = [floats(first), floats(second)];
  return Float32Array.from({ length: m * n * l * k }, (_, index) => {
    const [row, column] = [Math.floor(index / (l * k)), index % (l * k)];
    const left = w1[Math.floor(row / n) * l + Math.floor(column / k)] as number;
    return scaling * left * (w2[(row % n) * k + (column % k)] as number);
  });
}

/** The tensors that start at zero for each `initWeights`. One is enough for a zero change. */
const ZERO: Readonly<Record<string, readonly TensorName[]>> = {
  true: ['lokrW1', 'lokrW1A'],
  lycoris: ['lokrW2', 'lokrW2B'],
  false: [],
};

/**
 * Returns zeros or values uniform within 1 / sqrt(fan). As in torch's `kaiming_uniform_`, fan is the number of columns
 * of the tensor on disk.
 */
function initialTensors(shapes: Shapes, { initWeights }: LokrConfig, rng: Rng): HostTensors {
  const zero = ZERO[String(initWeights)] ?? [];
  return Object.fromEntries(
    Object.entries(shapes).map(([name, shape]) => [
      name,
      zero.includes(name as TensorName) ? hostZeros(shape) : kaimingUniform(rng.fork(name), ...shape),
    ]),
  );
}
