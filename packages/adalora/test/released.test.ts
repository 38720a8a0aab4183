import { readFileSync } from 'node:fs';
import { adalora, type AdaloraConfig } from '@peftjs/adalora';
import { hostTensor } from '@peftjs/core';
import { mapValues, tensorAt, type HostTensor, type HostTensors } from '@peftjs/core/method';
import { linearSite } from '@peftjs/core/model';
import { transposed } from '@peftjs/core/linalg';
import {
  adapterValues,
  contextOf,
  controllerOf,
  initialOf,
  layersOf,
  referenceBackend,
  relativeDistance,
  tensorsOf,
} from '@peftjs/conformance';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';

type Numbers = Readonly<Record<string, readonly number[]>>;

/** The output of tools/golden/adalora.py. */
interface Golden {
  readonly learning_rate: number;
  readonly shapes: Readonly<Record<string, readonly [number, number]>>;
  readonly start: Numbers;
  readonly steps: readonly { readonly gradients: Numbers; readonly lora_E: Numbers }[];
  readonly averages: { readonly smoothed: Numbers; readonly uncertainty: Numbers };
  readonly rank_pattern: Readonly<Record<string, readonly boolean[]>>;
}

const golden = JSON.parse(readFileSync(new URL('fixtures/allocator.json', import.meta.url), 'utf8')) as Golden;
const sites = Object.entries(golden.shapes).map(([path, [i, o]]) => linearSite(path, i, o));
const totalSteps = golden.steps.length;
const schedule = {
  initR: 4,
  targetR: 1,
  tinit: 3,
  tfinal: 4,
  deltaT: 3,
  beta1: 0.85,
  beta2: 0.8,
  totalStep: totalSteps,
};
const factors = { loraA: 'lora_A', loraE: 'lora_E', loraB: 'lora_B' } as const;

beforeAll(referenceBackend);

/**
 * Converts torch's rows of a module's factors to ours: A [r, in] -> [in, r], E [r, 1] -> [r], B [out, r] -> [r, out].
 */
function oriented(from: Numbers, path: string): HostTensors {
  const read = (name: string, shape: number[]): HostTensor =>
    hostTensor(Float32Array.from(from[`${path}.${name}`] ?? expect.fail(`no ${path}.${name}`)), shape);
  const [inFeatures, outFeatures] = golden.shapes[path] ?? expect.fail(`no ${path}`);
  return {
    loraA: transposed(read('lora_A', [schedule.initR, inFeatures])),
    loraE: read('lora_E', [schedule.initR]),
    loraB: transposed(read('lora_B', [outFeatures, schedule.initR])),
  };
}

/** Returns a module's tensors after one step of plain gradient descent and the layer's `update` rule. */
function stepped(
  layer: ReturnType<typeof layersOf>[string],
  before: HostTensors,
  gradient: HostTensors,
  scalars: Record<string, number>,
): HostTensors {
  const after = tf.tidy(() => {
    const [previous, gradients] = [tensorsOf(before), tensorsOf(gradient)];
    const proposed = { ...previous };
    for (const [name, each] of Object.entries(gradients)) {
      proposed[name] = tf.sub(tensorAt(previous, name), tf.mul(golden.learning_rate, each));
    }
    const changed = layer.update?.(proposed, { previous, gradient: gradients, ctx: contextOf(scalars) }) ?? {};
    return Object.entries({ ...proposed, ...changed }).map(([name, value]) => ({ name, data: [...value.dataSync()] }));
  });
  return Object.fromEntries(
    after.map(({ name, data }) => [name, hostTensor(Float32Array.from(data), tensorAt(before, name).shape)]),
  );
}

/** Repeats the golden file's run. Returns E of every module after every step, and the final state. */
function follow(options: Partial<AdaloraConfig>): { courses: Numbers[]; values: Record<string, HostTensors> } {
  const config = { ...schedule, orthRegWeight: 0, ...options };
  const layers = layersOf(adalora, sites, config);
  const controller = controllerOf(adalora, layers, config, { totalSteps, warmupSteps: 0, finalSteps: 1 });
  const values = mapValues(layers, (layer, path) => ({ ...initialOf(layer), ...oriented(golden.start, path) }));
  const courses = golden.steps.map(({ gradients }, index) => {
    const scalars = controller.scalars(index + 1, {});
    for (const [path, layer] of Object.entries(layers)) {
      values[path] = stepped(layer, tensorAt(values, path), oriented(gradients, path), scalars);
    }
    const all = adapterValues(values);
    const reads = controller.reads(index + 1);
    const seen = Object.fromEntries(reads.map((name) => [name, tensorAt(all, name)]));
    const changes = reads.length > 0 ? controller.afterStep(index + 1, seen)?.values : undefined;
    for (const path of Object.keys(values)) {
      for (const name of ['loraE', 'mask']) {
        const value = changes?.[`${path}.${name}`];
        if (value) values[path] = { ...values[path], [name]: value };
      }
    }
    return Object.fromEntries(sites.map(({ path }) => [path, [...tensorAt(tensorAt(values, path), 'loraE').data]]));
  });
  return { courses, values };
}

/** Returns the largest distance of a run's E from PEFT's over all steps. */
const distance = (courses: readonly Numbers[]): number =>
  Math.max(
    ...courses.flatMap((course, step) =>
      sites.map(({ path }) => relativeDistance(course[path] ?? [], golden.steps[step]?.lora_E[`${path}.lora_E`] ?? [])),
    ),
  );

describe("PEFT's allocator on given gradients", () => {
  it("is reproduced by allocator 'released': E at every step, the scores and the final mask", () => {
    const { courses, values } = follow({ allocator: 'released' });
    expect(distance(courses)).toBeLessThan(1e-5);
    for (const { path } of sites) {
      const own = tensorAt(values, path);
      expect([...tensorAt(own, 'mask').data].map(Boolean)).toEqual(golden.rank_pattern[`${path}.lora_E`]);
      const [smoothed, uncertainty] = [golden.averages.smoothed, golden.averages.uncertainty].map((averages) =>
        oriented(averages, path),
      );
      for (const factor of Object.keys(factors)) {
        const away = (name: string, theirs: HostTensors | undefined): number =>
          relativeDistance(tensorAt(own, `${name}.${factor}`).data, tensorAt(theirs ?? {}, factor).data);
        expect(away('smoothedSensitivity', smoothed)).toBeLessThan(1e-5);
        expect(away('uncertainty', uncertainty)).toBeLessThan(1e-5);
      }
    }
  });

  it("leaves uneven ranks and differs from the paper's", () => {
    expect(
      Object.values(golden.rank_pattern)
        .map((kept) => kept.filter(Boolean).length)
        .sort(),
    ).toEqual([0, 1, 2]);
    expect(distance(follow({ allocator: 'paper' }).courses)).toBeGreaterThan(0.1);
  });
});
