import { readFileSync } from 'node:fs';
import { createRng, type HostTensor, type Rng } from '@peftjs/core/method';
import { rankCost } from '@peftjs/core/ranks';
import { linearSite } from '@peftjs/core/model';
import { transposed } from '@peftjs/core/linalg';
import { hostMatrix, relativeDistance } from '@peftjs/conformance';
import { expect, it } from 'vitest';
import { gora } from '@peftjs/gora';
import { initialTensors } from '../src/start.js';
import { importanceOf, targets } from '../src/ranks.js';

type Matrix = readonly (readonly number[])[];

/** Values of the released code: tools/golden/rivals.py. Its matrices are [out, in], [r, in] and [out, r]. */
const released = JSON.parse(readFileSync(new URL('fixtures/released.json', import.meta.url), 'utf8')) as {
  readonly r: number;
  readonly alpha: number;
  readonly gamma: number;
  readonly modules: Readonly<
    Record<string, { weight: Matrix; gradient: Matrix; importance: number; rank: number; A: Matrix; B: Matrix }>
  >;
};
const modules = Object.entries(released.modules);

const turned = (rows: Matrix): HostTensor => transposed(hostMatrix(rows));

const sites = modules.map(([path, { weight }]) => linearSite(path, weight[0]?.length ?? 0, weight.length));

/** A generator from which A [in, r] is drawn with the given values. */
function drawing({ data, shape: [inFeatures = 0] }: HostTensor): Rng {
  let next = 0;
  return { ...createRng(0), uniform: () => ((data[next++] as number) * Math.sqrt(inFeatures) + 1) / 2 };
}

it('importance equals that of the released code', () => {
  const ours = modules.map(([, { weight, gradient }]) => importanceOf(turned(weight), turned(gradient)));
  expect(
    relativeDistance(
      ours,
      modules.map(([, { importance }]) => importance),
    ),
  ).toBeLessThan(1e-6);
});

it("targets, rounded as in the released code with the paper's root, are its ranks", () => {
  const importance = modules.map(([, module]) => module.importance);
  const ours = targets(sites, importance, released.r).map((target, index) => {
    const root = Math.sqrt(rankCost(sites[index] as (typeof sites)[number]));
    return Math.floor(Math.round(target * root) / root);
  });
  expect(ours).toEqual(modules.map(([, { rank }]) => rank));
});

it('B starts where the released code starts it, but down the gradient', () => {
  const { alpha, gamma } = released;
  const config = gora.parseConfig({ loraAlpha: alpha, gamma });
  for (const [index, [, { A, B, gradient }]] of modules.entries()) {
    const loraA = turned(A); // [in, r]
    const { loraB } = initialTensors(
      sites[index] as (typeof sites)[number],
      A.length,
      config,
      drawing(loraA),
      turned(gradient),
    );
    const uphill = [...turned(B).data].map((value) => -value);
    expect(relativeDistance(loraB?.data ?? [], uphill)).toBeLessThan(1e-5);
  }
});
