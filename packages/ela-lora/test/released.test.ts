import { readFileSync } from 'node:fs';
import { mapValues, tensorAt, type AdapterLayers, type HostTensors } from '@peftjs/core/method';
import { allocatedRanks } from '@peftjs/core/ranks';
import { linearSite, withResized } from '@peftjs/core/model';
import { transposed } from '@peftjs/core/linalg';
import {
  adapterValues,
  contextOf,
  controllerOf,
  hostMatrix,
  hostVector,
  initialOf,
  layerOf,
  layersOf,
  referenceBackend,
  tensorsOf,
} from '@peftjs/conformance';
import { elaLora } from '@peftjs/ela-lora';
import { expect, it } from 'vitest';

type Matrix = readonly (readonly number[])[];
type ByModule<Of> = Readonly<Record<string, Of>>;

/** Values of the released code: tools/golden/rivals.py. Its A is [r, in], its B [out, r]. */
const released = JSON.parse(readFileSync(new URL('fixtures/released.json', import.meta.url), 'utf8')) as {
  readonly sizes: ByModule<[number, number, number]>;
  readonly moves: readonly {
    movedRanks: number;
    candidateRanks: number;
    scores: ByModule<readonly number[]>;
    kept: ByModule<readonly number[]>;
    ranks: ByModule<number>;
  }[];
  readonly schedule: readonly [step: number, movedRanks: number][];
  readonly factors: ByModule<{ A: Matrix; B: Matrix }>;
  readonly orthogonality: number;
};
const sizes = Object.entries(released.sizes);
const sites = sizes.map(([path, [inputs, outputs]]) => linearSite(path, inputs, outputs));
const rankPattern = Object.fromEntries(sizes.map(([path, [, , ranks]]) => [path, ranks]));

/** A run in which ranks move after step 1, all of `movedRanks`. */
const plan = { totalSteps: 1000, warmupSteps: 0, finalSteps: 100 };
const early = { startRatio: 0, rankUpdateRatio: 0.001 };

/** Returns the values of untrained layers with these scores. */
const valuesOf = (layers: AdapterLayers, scoresOf: (path: string) => readonly number[]): HostTensors =>
  adapterValues(mapValues(layers, (layer, path) => ({ ...initialOf(layer), importance: hostVector(scoresOf(path)) })));

it.each(released.moves.map((move) => [move.movedRanks, move.candidateRanks, move] as const))(
  'the move of %i ranks, with %i candidates per module, is that of the released code',
  (movedRanks, candidateRanks, { scores, kept, ranks }) => {
    const config = { rankPattern, movedRanks, candidateRanks, ...early };
    const layers = layersOf(elaLora, sites, config);
    const controller = controllerOf(elaLora, layers, config, plan);
    const values = valuesOf(layers, (path) => tensorAt(scores, path));
    const { resized = {} } = controller.afterStep(1, values) ?? {};
    const counts = Object.entries(withResized(layers, resized)).map(([path, layer]) => [path, allocatedRanks(layer)]);
    expect(Object.fromEntries(counts)).toEqual(ranks);
    for (const [path, own] of Object.entries(kept)) {
      const indices = hostVector(tensorAt(scores, path).map((_, rank) => rank + 1));
      const carried = resized[path]?.carry('importance', indices, 'value').data ?? indices.data;
      const old = [...carried].flatMap((index) => (index > 0 ? [index - 1] : [])); // new ranks have score 0
      expect(old, path).toEqual(own);
    }
  },
);

it("the number of ranks that move falls over a run as in the released script's for RTE", () => {
  const wide = [linearSite('a', 40, 50), linearSite('b', 40, 50)];
  const rte = { totalSteps: 1950, warmupSteps: 117, finalSteps: 500 };
  const moved = released.schedule.map(([step]) => {
    const config = { candidateRanks: 4 };
    const layers = layersOf(elaLora, wide, config);
    const values = valuesOf(layers, (path) => Array<number>(10).fill(path === 'a' ? 1 : 2));
    const controller = controllerOf(elaLora, layers, config, rte);
    const { resized = {} } = controller.afterStep(step, values) ?? {};
    return [step, allocatedRanks(withResized(layers, resized).b ?? expect.fail('no module')) - 10];
  });
  expect(moved).toEqual(released.schedule);
});

it('the orthogonality term equals that of the released code', async () => {
  await referenceBackend();
  const factors = Object.values(released.factors);
  const terms = factors.map(({ A, B }) => {
    const layer = layerOf(elaLora, { r: A.length, orthRegWeight: 0.1 }, [A[0]?.length ?? 0, B.length]);
    const values = tensorsOf({ loraA: transposed(hostMatrix(A)), loraB: transposed(hostMatrix(B)) });
    return layer.loss?.(values, contextOf({}, factors.length)).dataSync()[0] ?? NaN;
  });
  expect(terms.reduce((sum, term) => sum + term, 0) / released.orthogonality).toBeCloseTo(1, 5);
});
