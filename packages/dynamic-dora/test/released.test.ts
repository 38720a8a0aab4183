import { readFileSync } from 'node:fs';
import { hostFilled, hostZeros, mapValues, tensorAt, type HostTensor } from '@peftjs/core/method';
import { linearSite } from '@peftjs/core/model';
import { transposed } from '@peftjs/core/linalg';
import {
  adapterValues,
  contextOf,
  controllerOf,
  hostMatrix,
  hostVector,
  layersOf,
  referenceBackend,
  relativeDistance,
  tensorsOf,
} from '@peftjs/conformance';
import { dynamicDora } from '@peftjs/dynamic-dora';
import { beforeAll, expect, it } from 'vitest';

beforeAll(referenceBackend);

type Matrix = readonly (readonly number[])[];
type ByModule<Of> = Readonly<Record<string, Of>>;

/** Values of the released code: tools/golden/rivals.py. Its A is [r, in], its B [out, r]. */
const released = JSON.parse(readFileSync(new URL('fixtures/released.json', import.meta.url), 'utf8')) as {
  readonly sizes: ByModule<[number, number]>;
  readonly r: number;
  readonly targetR: number;
  readonly steps: readonly ByModule<{ A: Matrix; B: Matrix; c: readonly number[]; scores: readonly number[] }>[];
  readonly regularization: number;
  readonly totalSteps: number;
  readonly interval: number;
  readonly events: readonly { step: number; scores: ByModule<readonly number[]>; zeros: ByModule<readonly number[]> }[];
};
const { r, targetR, totalSteps } = released;
const sites = Object.entries(released.sizes).map(([path, [inputs, outputs]]) => linearSite(path, inputs, outputs));
const options = { r, targetR, demWeight: 1, rankUpdateRatio: released.interval / totalSteps };
const layers = layersOf(dynamicDora, sites, options);

const turned = (rows: Matrix): HostTensor => transposed(hostMatrix(rows));

it('scores of five steps equal those of the released code', () => {
  for (const { path } of sites) {
    let importance: HostTensor = hostZeros([r]);
    for (const step of released.steps) {
      const { A, B, c, scores } = tensorAt(step, path);
      const values = tensorsOf({ loraA: turned(A), gate: hostVector(c), loraB: turned(B) });
      const at = { previous: tensorsOf({ importance }), gradient: {}, ctx: contextOf({ dem: 1 }) };
      importance = hostVector([...(tensorAt(layers, path).update?.(values, at)['importance']?.dataSync() ?? [])]);
      expect(relativeDistance(importance.data, scores), path).toBeLessThan(1e-5);
    }
  }
});

it('the term of the loss equals that of the released code', () => {
  const last = released.steps.at(-1) ?? {};
  const terms = sites.map(({ path }) => {
    const { A, B } = tensorAt(last, path);
    const values = tensorsOf({ loraA: turned(A), loraB: turned(B) });
    return (
      tensorAt(layers, path)
        .loss?.(values, contextOf({ dem: 1 }, sites.length))
        .dataSync()[0] ?? NaN
    );
  });
  expect(terms.reduce((sum, term) => sum + term, 0) / released.regularization).toBeCloseTo(1, 5);
});

it('prunes the components that the released code prunes, after the same steps', () => {
  const plan = { totalSteps, warmupSteps: 0, finalSteps: 60 };
  const controller = controllerOf(dynamicDora, layers, options, plan);
  const due = Array.from({ length: totalSteps }, (_, step) => step).filter((step) => controller.reads(step).length > 0);
  expect(due).toEqual(released.events.map(({ step }) => step));
  for (const { step, scores, zeros } of released.events) {
    const values = adapterValues(
      mapValues(scores, (own) => ({ importance: hostVector(own), gate: hostFilled([r], 1) })),
    );
    const { values: masked = {}, resized = {} } = controller.afterStep(step, values) ?? {};
    const pruned = sites.map(({ path }) => {
      const gate = masked[`${path}.gate`];
      const kept = resized[path]?.carry('gate', hostVector(Array.from({ length: r }, (_, rank) => rank)), 'value').data;
      const isPruned = (rank: number): boolean => (kept ? !kept.includes(rank) : gate?.data[rank] === 0);
      return [path, Array.from({ length: r }, (_, rank) => rank).filter(isPruned)];
    });
    expect(Object.fromEntries(pruned), `step ${step}`).toEqual(zeros);
  }
});
