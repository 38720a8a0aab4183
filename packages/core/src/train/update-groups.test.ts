import * as tf from '@tensorflow/tfjs-core';
import type { Tensor } from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { referenceExecutor, toyModel } from '@peftjs/conformance';
import { initialValues } from '../adapter/peft-model.js';
import { trained, type AdapterLayers } from '../contracts/layer.js';
import { adafactor } from '../optimizers/adafactor.js';
import { adamW } from '../optimizers/adamw.js';
import { hostTensor, mapValues, sizeOf } from '../tensors.js';
import { trainedTensors } from './step.js';
import { heldSlot, joined, parted, slotByTensor, slotSpecs, updateGroups } from './update-groups.js';

beforeAll(async () => {
  await referenceExecutor();
});

// Shapes in turn, scalars and a tensor too large to be joined among them.
const shapes = [[2, 3], [], [4], [2, 3], [], [300, 300], [4]];

function layers(): AdapterLayers {
  const [site] = toyModel().sites;
  if (!site) throw new Error('the toy model has sites');
  const params = shapes.map((shape, index) => {
    const data = Float32Array.from({ length: sizeOf(shape) }, (_, at) => 1000 * index + at);
    return [`t${index}`, trained(hostTensor(data, shape))] as const;
  });
  return { [site.path]: { site, params: Object.fromEntries(params), forward: (x) => x, storedParameters: () => 0 } };
}

describe('tensors that are updated together', () => {
  const values = initialValues(layers());
  const groups = updateGroups(adamW(), trainedTensors(layers()));
  const tensors = (): Record<string, Tensor> => mapValues(values, ({ data, shape }) => tf.tensor(data, [...shape]));

  it('are one vector, those of equal shape next to each other; a large one is alone', () => {
    const names = groups.map((group) => group.tensors.map(({ key }) => key.split('.').at(-1)));
    expect(names).toEqual([['t0', 't3', 't1', 't4', 't2', 't6'], ['t5']]);
    const sizes = mapValues(slotSpecs(adamW(), groups), (specs) => Object.values(specs).map(({ shape }) => shape));
    expect(sizes).toEqual({ moment1: [[22], [300, 300]], moment2: [[22], [300, 300]] });
  });

  it('are the same vector on the host and in a step, and are parted again', () => {
    const held = heldSlot(groups, values);
    for (const group of groups) {
      const vector = joined(group, tensors());
      expect(vector.dataSync()).toEqual(held[group.name]?.data);
      for (const [key, part] of Object.entries(parted(group, vector))) {
        expect([part.shape, part.dataSync()]).toEqual([values[key]?.shape, values[key]?.data]);
      }
    }
    expect(slotByTensor(groups, held)).toEqual(values);
  });

  it('are none for an optimizer that reads a tensor as a whole, whose slots keep their own shapes', () => {
    const alone = updateGroups(adafactor(), trainedTensors(layers()));
    expect(alone.map(({ tensors: { length } }) => length)).toEqual(shapes.map(() => 1));
    const rows = Object.values(slotSpecs(adafactor(), alone).rows ?? {});
    expect(rows.map(({ shape }) => shape)).toEqual([[2], [2], [300]]);
  });
});
