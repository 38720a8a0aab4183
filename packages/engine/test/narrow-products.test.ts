import * as tf from '@tensorflow/tfjs-core';
import type { Tensor2D } from '@tensorflow/tfjs-core';
import type { HostTensors } from '@peftjs/core/method';
import type { PureFunction } from '@peftjs/core/runtime';
import * as ort from 'onnxruntime-node';
import { describe, expect, it } from 'vitest';
import { withNarrowProducts } from '../src/compiled/narrow-products.js';
import { writeModel, type ModelGraph } from '../src/compiled/onnx.js';
import type { GraphPort } from '../src/compiled/parts.js';
import { trace } from '../src/compiled/trace.js';
import { floats } from './cases.js';

/** x^T dy, the gradient of W in x W. */
const gradient: PureFunction = ({ x, dy }) => ({ gradient: tf.matMul(x as Tensor2D, dy as Tensor2D, true, false) });
const narrow: HostTensors = { x: floats([300, 40]), dy: floats([300, 5]) };

async function run(graph: ModelGraph<GraphPort>, inputs: HostTensors): Promise<unknown> {
  const session = await ort.InferenceSession.create(writeModel(graph), { logSeverityLevel: 4 });
  const feeds = graph.inputs.map(({ key, name }) => {
    const { data, shape } = inputs[key] as HostTensors[string];
    return [name, new ort.Tensor('float32', data as Float32Array, shape)] as const;
  });
  const results = await session.run(Object.fromEntries(feeds));
  await session.release();
  return graph.outputs.map(({ name }) => results[name]?.data);
}

const opsOf = ({ nodes }: ModelGraph): string[] => nodes.map(({ op }) => op);

describe('a product a^T b with a narrow b', () => {
  it('becomes (b^T a)^T, with the same numbers to the bit', async () => {
    const graph = await trace(gradient, narrow);
    const other = withNarrowProducts(graph);
    expect([opsOf(graph), opsOf(other)]).toEqual([
      ['Transpose', 'MatMul'],
      ['Transpose', 'MatMul', 'Transpose'],
    ]);
    expect(await run(other, narrow)).toEqual(await run(graph, narrow));
  });

  it('keeps the transpose of a that others read', async () => {
    const both: PureFunction = (given) => ({
      ...gradient(given),
      other: tf.exp(tf.transpose(given['x'] as Tensor2D)),
    });
    expect(opsOf(withNarrowProducts(await trace(both, narrow))).sort()).toEqual([
      'Exp',
      'MatMul',
      'Transpose',
      'Transpose',
      'Transpose',
    ]);
  });
});

it.each<[string, PureFunction, HostTensors]>([
  ['b is not narrow', gradient, { x: floats([9, 40]), dy: floats([9, 20]) }],
  [
    'b is transposed, too',
    ({ x, dy }) => ({ y: tf.matMul(x as Tensor2D, dy as Tensor2D, true, true) }),
    { x: floats([9, 40]), dy: floats([5, 9]) },
  ],
  ['there are several matrices', gradient, { x: floats([2, 9, 40]), dy: floats([2, 9, 5]) }],
])('stays as it is where %s', async (_, fn, inputs) => {
  const graph = await trace(fn, inputs);
  expect(withNarrowProducts(graph).nodes).toEqual(graph.nodes);
});
