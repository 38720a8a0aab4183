import { readFile } from 'node:fs/promises';
import { hostTensor } from '@peftjs/core';
import { tensorAt, type HostTensor, type HostTensors } from '@peftjs/core/method';
import { linearSite } from '@peftjs/core/model';
import { loraDelta, transposed } from '@peftjs/core/linalg';
import {
  contextOf,
  forwardOf,
  hostMatrix,
  hostVector,
  initialOf,
  layersOf,
  referenceBackend,
  relativeDistance,
  tensorsOf,
} from '@peftjs/conformance';
import { vera } from '@peftjs/vera';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';

type Matrix = readonly (readonly number[])[];

/** Values computed with PEFT by tools/golden/vera.py. */
interface Golden {
  readonly r: number;
  readonly key: number;
  readonly veraA: Matrix;
  readonly veraB: Matrix;
  readonly modules: Readonly<
    Record<string, { d: number[]; b: number[]; weight: Matrix; x: Matrix; y: Matrix; delta: Matrix }>
  >;
}

const golden = JSON.parse(await readFile(new URL('fixtures/peft.json', import.meta.url), 'utf8')) as Golden;
const sites = [linearSite('up', 4, 6), linearSite('down', 5, 2)];
const layers = layersOf(vera, sites, { r: golden.r, projectionPrngKey: golden.key });

beforeAll(referenceBackend);

it("draws PEFT's A and B from the same seed, bit for bit, once for all modules", () => {
  for (const layer of Object.values(layers)) {
    const { veraA, veraB } = initialOf(layer);
    expect(transposed(veraA as HostTensor)).toEqual(hostMatrix(golden.veraA));
    expect(transposed(veraB as HostTensor)).toEqual(hostMatrix(golden.veraB));
  }
  expect(layers.up?.state?.veraA?.initial).toBe(layers.down?.state?.veraA?.initial);
});

describe.each(Object.entries(golden.modules))("module '%s', smaller than the shared matrices", (path, module) => {
  const layer = tensorAt(layers, path);
  const values: HostTensors = {
    ...initialOf(layer),
    veraLambdaD: hostVector(module.d),
    veraLambdaB: hostVector(module.b),
  };

  it("has PEFT's output", () => {
    const x = tf.tensor2d(module.x.map((row) => [...row]));
    const base = tf.matMul(x, tf.tensor2d(module.weight.map((row) => [...row])), false, true);
    const y = forwardOf(layer, tensorsOf(values), x, base, contextOf());
    expect(relativeDistance([...y.dataSync()], module.y.flat())).toBeLessThan(1e-6);
  });

  it("changes the weight as in PEFT, as a LoRA of the shared matrices' rank", () => {
    const factors = layer.toLora?.(values) ?? expect.fail('no factors');
    const [inFeatures, outFeatures] = [layer.site.inFeatures, layer.site.outFeatures];
    const delta = transposed(hostTensor(loraDelta(factors), [inFeatures, outFeatures]));
    expect(relativeDistance([...delta.data], module.delta.flat())).toBeLessThan(1e-6);
    expect(factors.loraA.shape).toEqual([inFeatures, golden.r]);
  });
});
