import { withResized } from '@peftjs/core/model';
import { activeAdapter, attach, withAdapter } from '@peftjs/core';
import { hostZeros, tensorAt, type HostTensors } from '@peftjs/core/method';
import {
  contextOf,
  controllerOf,
  forwardOf,
  layerOf,
  referenceBackend,
  relativeDistance,
  toyEvaluationData,
  toyModel,
  toyOutputs,
  trainToy,
} from '@peftjs/conformance';
import { l1ra, type L1raConfig } from '@peftjs/l1ra';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';

beforeAll(referenceBackend);

it("adds s ((x A) * c) B to the module's output", () => {
  const layer = layerOf(l1ra, { r: 2, loraAlpha: 6 }, [2, 3]);
  const p = {
    loraA: tf.tensor2d([1, 2, 3, 4], [2, 2]),
    gate: tf.tensor1d([0.5, 0.25]),
    loraB: tf.tensor2d([1, 0, 2, 0, 1, 4], [2, 3]),
  };
  const y = forwardOf(layer, p, tf.tensor2d([1, 1], [1, 2]), tf.tensor2d([10, 20, 30], [1, 3]));
  // x A = (4, 6), times c = (2, 1.5), times B = (2, 1.5, 10), times 6 / 2
  expect([...y.dataSync()]).toEqual([16, 24.5, 60]);
});

describe('a gate', () => {
  const ruled = (gates: number[], options: Partial<L1raConfig> = {}, leastGate = 0): number[] => {
    const layer = layerOf(l1ra, { r: gates.length, ...options });
    const at = { previous: {}, gradient: {}, ctx: contextOf({ leastGate }) };
    const { gate } = layer.update?.({ gate: tf.tensor1d(gates) }, at) ?? {};
    return [...(gate?.dataSync() ?? [])];
  };

  it('shrinks by eta_c lambda at every step, and stays between zero and one', () => {
    const gates = ruled([1.3, 1, 0.5, 0.01, 0, -0.2], { etaC: 0.1, l1raLambda: 0.25 });
    expect(gates).toEqual([1, 0.975, 0.475, 0, 0, 0].map(Math.fround));
  });

  it('stays above zero if the controller sets a minimum', () => {
    expect(ruled([0.5, 0.01, -1], { etaC: 0.1, l1raLambda: 0.25 }, 1e-10)).toEqual(
      [0.475, 1e-10, 1e-10].map(Math.fround),
    );
  });

  it('starts from one and learns at its own constant rate', async () => {
    const { gate } = layerOf(l1ra, { r: 3 }).params;
    expect([...(gate?.initial.data ?? [])]).toEqual([1, 1, 1]);
    // In the first step Adam moves by its rate: B is zero there, so a gate has no gradient yet, and moves in the
    // second.
    const moves: Record<number, number> = {};
    for (const learningRate of [1e-6, 1e-2]) {
      const peft = attach(toyModel(), l1ra({ r: 2, etaC: 0.25, l1raLambda: 0 }), { seed: 1 });
      const { last } = await trainToy(peft, { epochs: 1, learningRate, schedule: 'linear' });
      const gates = Object.entries(last.values).flatMap(([key, { data }]) => (key.endsWith('gate') ? [...data] : []));
      moves[learningRate] = Math.max(...gates.map((value) => 1 - value));
    }
    expect(moves[1e-6]).toBeGreaterThan(0.2);
    expect(moves[1e-2]).toBeGreaterThan(0.2);
  });
});

it('moves ranks without changing their number or the outputs', async () => {
  const peft = attach(toyModel(), l1ra({ r: 4, l1raLambda: 0.7, etaC: 0.05, rankUpdateRatio: 0.25 }), { seed: 1 });
  const { last } = await trainToy(peft, { epochs: 10, selection: { data: toyEvaluationData(), evaluations: 10 } });
  const held = Object.values(last.layers).map(({ params }) => tensorAt(params, 'gate').initial.shape[0] ?? 0);
  expect(held.reduce((sum, ranks) => sum + ranks, 0)).toBe(4 * held.length);
  expect(new Set(held).size).toBeGreaterThan(2);

  const { layers, values } = last;
  const plan = { totalSteps: 10, warmupSteps: 0, finalSteps: 1 };
  const controller = controllerOf(l1ra, layers, activeAdapter(peft).config, plan);
  const [first = ''] = Object.keys(layers);
  const gate = tensorAt(values, `${first}.gate`);
  const dying = { ...values, [`${first}.gate`]: hostZeros(gate.shape) };
  const seen = Object.fromEntries(Object.keys(layers).map((path) => [`${path}.gate`, tensorAt(dying, `${path}.gate`)]));
  const { resized = {} } = controller.afterStep(2, seen) ?? {};
  const moved: HostTensors = { ...dying };
  for (const [path, { layer, carry }] of Object.entries(resized)) {
    for (const name of Object.keys(layer.params)) {
      moved[`${path}.${name}`] = carry(name, tensorAt(dying, `${path}.${name}`), 'value');
    }
  }
  expect(Object.keys(resized).length).toBeGreaterThan(1);
  const before = await toyOutputs(withAdapter(peft, { values: dying, layers }));
  const after = await toyOutputs(withAdapter(peft, { values: moved, layers: withResized(layers, resized) }));
  expect(relativeDistance(after, before)).toBeLessThan(1e-5);
});
