import { hostTensor } from '@peftjs/core';
import { floats, tensorAt, tensorsAt, type HostTensors, type Tensors } from '@peftjs/core/method';
import { embeddingSite } from '@peftjs/core/model';
import { contextOf, initialOf, referenceBackend, relativeDistance, tensorsOf } from '@peftjs/conformance';
import * as tf from '@tensorflow/tfjs-core';
import { describe, expect, it } from 'vitest';
import { drawn, foldedWeight, layersOn, matrix, moved, numbers, onModule, outputOn, type OnModule } from './harness.js';

await referenceBackend(); // before the first tensor: it would print a banner

const scaling = 1.5;
const dora = { r: 2, loraAlpha: 3, useDora: true };

/** Returns the norms of a weight's columns, [out]. */
const columnNorms = (weight: tf.Tensor): tf.Tensor => tf.sqrt(tf.sum(tf.square(weight), 0));

/** Returns V for these tensors. */
const changedWeight = ({ frozen }: OnModule, { loraA, loraB }: Tensors): tf.Tensor =>
  tf.add(matrix(frozen.weight), tf.mul(tf.matMul(loraA as tf.Tensor, loraB as tf.Tensor), scaling));

/** Returns x W' + b by the definition W' = m V / n; `norm` defaults to ||V||. */
function byDefinition(on: OnModule, p: Tensors, x: tf.Tensor, norm = columnNorms(changedWeight(on, p))): tf.Tensor {
  const weight = tf.mul(changedWeight(on, p), tf.div(tensorAt(p, 'loraMagnitudeVector'), norm));
  return tf.add(tf.matMul(x, weight), tf.tensor1d(floats(on.frozen.bias ?? expect.fail('no bias'))));
}

describe('trap 25: the weight is m V / ||V|| over the input axis', () => {
  it.each([{}, { initLoraWeights: 'pissa' as const }, { initLoraWeights: 'olora' as const }])(
    'and equals W0 at the start, with %o',
    (start) => {
      const on = onModule({ ...dora, ...start });
      const values = initialOf(on.layer);
      expect(tensorAt(values, 'loraMagnitudeVector').shape).toEqual([10]);
      foldedWeight(on, values).forEach((value, index) => {
        expect(Math.abs(value - (on.frozen.weight.data[index] as number))).toBeLessThan(1e-6);
      });
    },
  );

  it('and equals W0 + s A B at the start if A and B are random', () => {
    const on = onModule({ ...dora, initLoraWeights: false });
    const values = initialOf(on.layer);
    const expected = numbers(changedWeight(on, tensorsOf(values)));
    expect(relativeDistance(foldedWeight(on, values), expected)).toBeLessThan(1e-6);
    expect(relativeDistance(expected, on.frozen.weight.data)).toBeGreaterThan(0.1);
  });

  it("in the layer's forward pass and when merged", () => {
    const on = onModule(dora);
    const values = moved(on.layer);
    const x = matrix(drawn(4, [5, 6]));
    const expected = numbers(byDefinition(on, tensorsOf(values), x));
    expect(relativeDistance(numbers(outputOn(on, tensorsOf(values), x)), expected)).toBeLessThan(1e-5);
    const folded = tf.matMul(x, tf.tensor2d(foldedWeight(on, values), [6, 10]));
    expect(relativeDistance(numbers(tf.add(folded, on.frozen.bias?.data ?? [])), expected)).toBeLessThan(1e-5);
  });

  it('and has the gradients of a constant norm, not those through the norm', () => {
    const on = onModule(dora);
    const values = moved(on.layer);
    const x = matrix(drawn(4, [5, 6]));
    const weights = matrix(drawn(5, [5, 10])); // the loss is the sum of the outputs, weighted by these
    const fixed = columnNorms(changedWeight(on, tensorsOf(values)));
    const lossBy =
      (output: (p: Tensors) => tf.Tensor) =>
      (at: HostTensors): number =>
        numbers(tf.sum(tf.mul(output(tensorsOf(at)), weights)))[0] as number;
    const held = lossBy((p) => byDefinition(on, p, x, fixed));
    const free = lossBy((p) => byDefinition(on, p, x));

    const p = tensorsOf(values);
    const names = ['loraA', 'loraB', 'loraMagnitudeVector'];
    const { grads } = tf
      .engine()
      .gradients<tf.Scalar>(() => tf.sum(tf.mul(outputOn(on, p, x), weights)), Object.values(tensorsAt(p, ...names)));
    names.forEach((name, index) => {
      const byTape = numbers(grads[index]);
      expect(relativeDistance(differences(values, name, held), byTape), name).toBeLessThan(2e-3);
      const undetached = relativeDistance(differences(values, name, free), byTape);
      if (name === 'loraMagnitudeVector') expect(undetached).toBeLessThan(2e-3); // the norm does not depend on this tensor
      else expect(undetached, name).toBeGreaterThan(0.05);
    });
  });
});

/** Returns a loss's derivatives with respect to one tensor, by central differences. */
function differences(values: HostTensors, name: string, loss: (at: HostTensors) => number): number[] {
  const { data, shape } = tensorAt(values, name);
  const step = 0.05;
  const shifted = (index: number, by: number): number => {
    const at = Float32Array.from(data);
    at[index] = (at[index] as number) + by;
    return loss({ ...values, [name]: hostTensor(at, shape) });
  };
  return Array.from(data, (_, index) => (shifted(index, step) - shifted(index, -step)) / (2 * step));
}

describe('the layer', () => {
  it("applies dropout to the input of W0 and of the change, as in PEFT, but not to the module's own input", () => {
    const on = onModule({ ...dora, loraDropout: 0.5 });
    const p = tensorsOf(moved(on.layer));
    const x = matrix(drawn(4, [5, 6]));
    const dropped = tf.mul(x, matrix(drawn(6, [5, 6])));
    const y = outputOn(on, p, x, { ...contextOf(), dropout: () => dropped });
    const frozenOutput = (of: tf.Tensor): tf.Tensor => tf.matMul(of, matrix(on.frozen.weight));
    const rest = tf.sub(byDefinition(on, p, dropped), frozenOutput(dropped));
    expect(relativeDistance(numbers(y), numbers(tf.add(frozenOutput(x), rest)))).toBeLessThan(1e-5);
  });

  it('scales the rows of an embedding, by norms over all its rows', () => {
    const on = onModule(dora, { site: embeddingSite('m', 7, 4) });
    const p = tensorsOf(moved(on.layer));
    const ids = tf.tensor2d([[0, 6, 3]], [1, 3], 'int32');
    const changed = changedWeight(on, p);
    const weight = tf.mul(changed, tf.div(tensorAt(p, 'loraMagnitudeVector'), columnNorms(changed))); // [7, 4]
    expect(relativeDistance(numbers(outputOn(on, p, ids)), numbers(tf.gather(weight, ids)))).toBeLessThan(1e-5);
  });

  it('stays finite at outputs whose weights are all zero', () => {
    const { layer } = onModule(dora);
    const weight = hostTensor(new Float32Array(60), [6, 10]);
    const layers = layersOn([layer.site], { m: { weight } }, dora);
    const on = { layer: tensorAt(layers, 'm'), frozen: { weight } };
    const y = numbers(outputOn(on, tensorsOf(initialOf(on.layer)), matrix(drawn(4, [5, 6]))));
    expect(y).toEqual(new Array<number>(50).fill(0));
    expect(foldedWeight(on, initialOf(on.layer))).toEqual(new Array<number>(60).fill(0));
  });

  it('stores a magnitude for every output besides A and B', () => {
    const { layer } = onModule(dora);
    expect(layer.storedParameters(initialOf(layer))).toBe(2 * 16 + 10);
    expect(layer.rank?.(initialOf(layer))).toBe(2);
  });
});
