import * as tf from '@tensorflow/tfjs-core';
import type { Tensor } from '@tensorflow/tfjs-core';
import type { PureFunction } from '@peftjs/core/runtime';
import { expect, it } from 'vitest';
import { kernelTable } from './kernels/table.js';
import { prepare } from './prepare.js';

it('names the open sizes that a large graph computes, equal ones alike', async () => {
  const split: PureFunction = ({ x, y }) => {
    let sum: Tensor = tf.reshape(x as Tensor, [-1, 4]); // [batch, 8] -> [2 batch, 4]
    for (let node = 0; node < 3000; node++) sum = tf.add(sum, 1);
    return { sum, other: tf.exp(tf.reshape(y as Tensor, [-1, 2])) }; // [batch, 4] -> [2 batch, 2]
  };
  const specs = { x: { dtype: 'float32', shape: ['batch', 8] }, y: { dtype: 'float32', shape: ['batch', 4] } } as const;
  const { graph } = await prepare({ table: kernelTable, bytes: 'int8' }, split, specs);
  const { shapes = [] } = await graph();
  expect(shapes.map(({ shape }) => shape)).toEqual([
    ['2*batch', 4],
    ['2*batch', 2],
  ]);
});
