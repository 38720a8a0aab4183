import * as tf from '@tensorflow/tfjs-core';
import type { Tensor } from '@tensorflow/tfjs-core';
import {
  attention,
  causalBias,
  dropout,
  embedding,
  gelu,
  geluTanh,
  layerNorm,
  linear,
  maskBias,
  rmsNorm,
  rotary,
  silu,
  softmaxCrossEntropy,
} from '@peftjs/core/nn';
import { floats, integers } from '../cases.js';
import { get, unary } from './case.js';
import type { Case } from './case.js';

/** Matrix products, and the layers of core/nn. */
export const layers: Readonly<Record<string, Case>> = {
  // products
  BatchMatMul: {
    inputs: { a: floats([2, 3]), b: floats([3, 4]), c: floats([4, 3]) },
    fn: (t) => ({
      ab: tf.matMul(get(t, 'a'), get(t, 'b')),
      ac: tf.matMul(get(t, 'a'), get(t, 'c'), false, true),
      cb: tf.matMul(get(t, 'c'), get(t, 'b'), true, true),
      dot: tf.dot(tf.reshape(get(t, 'a'), [6]), tf.reshape(tf.slice(get(t, 'b'), [0, 0], [3, 2]), [6])),
    }),
    gradients: ['a', 'b', 'c'],
  },
  'BatchMatMul of batches': {
    inputs: { a: floats([2, 2, 3, 4]), b: floats([2, 2, 5, 4]) },
    fn: (t) => ({ y: tf.matMul(get(t, 'a'), get(t, 'b'), false, true), z: tf.matMul(get(t, 'a'), get(t, 'a'), true) }),
    gradients: ['a', 'b'],
  },
  'BatchMatMul over a broadcast batch': {
    inputs: { a: floats([2, 5, 3, 4]), b: floats([5, 4, 2]) },
    fn: (t) => ({
      y: tf.matMul(get(t, 'a'), get(t, 'b')),
      z: tf.matMul(get(t, 'a'), tf.broadcastTo(get(t, 'b'), [2, 5, 4, 2])),
    }),
  },
  _FusedMatMul: {
    inputs: { a: floats([2, 3]), b: floats([3, 4]), bias: floats([4]), alpha: floats([4], 0, 1) },
    fn: (t) => {
      const product = (activation: 'linear' | 'relu' | 'relu6' | 'elu' | 'sigmoid' | 'leakyrelu'): Tensor =>
        tf.fused.matMul({ a: get(t, 'a'), b: get(t, 'b'), bias: get(t, 'bias'), activation });
      return {
        linear: product('linear'),
        relu: product('relu'),
        relu6: product('relu6'),
        elu: product('elu'),
        sigmoid: product('sigmoid'),
        leakyrelu: product('leakyrelu'),
        plain: tf.fused.matMul({ a: get(t, 'b'), b: get(t, 'a'), transposeA: true, transposeB: true }),
        prelu: tf.fused.matMul({
          a: get(t, 'a'),
          b: get(t, 'b'),
          activation: 'prelu',
          preluActivationWeights: get(t, 'alpha'),
        }),
      };
    },
    gradients: ['a', 'b', 'bias'],
  },

  // layers
  linear: {
    inputs: { x: floats([2, 3, 4]), w: floats([4, 5]), b: floats([5]) },
    fn: (t) => ({ y: linear(get(t, 'x'), get(t, 'w'), get(t, 'b')), z: linear(get(t, 'x'), get(t, 'w')) }),
    gradients: ['x', 'w', 'b'],
  },
  PeftLayerNorm: {
    inputs: { x: floats([2, 3, 8]), gain: floats([8], 0.5, 1.5), shift: floats([8]) },
    fn: (t) => ({
      y: layerNorm(get(t, 'x'), get(t, 'gain'), get(t, 'shift'), 1e-5),
      z: layerNorm(tf.reshape(get(t, 'x'), [6, 8]), tf.ones([8]), tf.zeros([8]), 1e-5),
    }),
    gradients: ['x', 'gain', 'shift'],
  },
  'PeftGelu, PeftGeluGrad': unary(gelu, -4, 4),
  PeftGeluTanh: unary(geluTanh, -4, 4),
  PeftSilu: unary(silu, -6, 6),
  PeftRmsNorm: {
    inputs: { x: floats([2, 3, 8]), gain: floats([8], 0.5, 1.5) },
    fn: (t) => ({
      y: rmsNorm(get(t, 'x'), get(t, 'gain'), 1e-5),
      z: rmsNorm(tf.reshape(get(t, 'x'), [6, 8]), tf.ones([8]), 1e-2),
    }),
    gradients: ['x', 'gain'],
  },
  PeftRotary: {
    inputs: { x: floats([2, 3, 12]), angles: floats([7, 2], -3, 3), positions: integers([2, 3], 0, 7) },
    fn: (t) => {
      const [cos, sin] = [tf.cos(get(t, 'angles')), tf.sin(get(t, 'angles'))];
      return {
        y: rotary(get(t, 'x'), { cos, sin }),
        z: rotary(get(t, 'x'), { cos, sin, positions: get(t, 'positions') }),
      };
    },
    gradients: ['x'],
  },
  softmaxCrossEntropy: {
    inputs: { logits: floats([5, 7], -9, 9), labels: integers([5], 0, 7) },
    fn: (t) => ({ y: softmaxCrossEntropy(get(t, 'logits'), get(t, 'labels')) }),
    gradients: ['logits'],
  },
  attention: {
    inputs: { q: floats([2, 3, 8]), k: floats([2, 5, 8]), v: floats([2, 5, 8]), mask: integers([2, 5], 0, 2) },
    fn: (t) => ({
      y: attention(get(t, 'q'), get(t, 'k'), get(t, 'v'), { heads: 2, maskBias: maskBias(get(t, 'mask')) }),
      z: attention(get(t, 'q'), get(t, 'k'), get(t, 'v'), { heads: 4, scale: 0.7 }),
    }),
    gradients: ['q', 'k', 'v'],
  },
  'attention of heads that share keys': {
    inputs: { q: floats([2, 3, 8]), k: floats([2, 3, 4]), v: floats([2, 3, 4]) },
    fn: (t) => ({
      y: attention(get(t, 'q'), get(t, 'k'), get(t, 'v'), { heads: 4, keyHeads: 2, maskBias: causalBias(3) }),
    }),
    gradients: ['q', 'k', 'v'],
  },
  embedding: {
    inputs: { table: floats([5, 3]), ids: integers([2, 4], 0, 5) },
    fn: (t) => ({ y: embedding(get(t, 'table'), get(t, 'ids')) }),
    gradients: ['table'],
  },
  dropout: {
    inputs: { x: floats([4, 6]), uniform: floats([4, 6], 0, 1) },
    fn: (t) => ({ y: dropout(get(t, 'x'), 0.4, get(t, 'uniform')) }),
    gradients: ['x'],
  },
};
