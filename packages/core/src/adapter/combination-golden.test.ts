import { readFile } from 'node:fs/promises';
import { relativeDistance } from '@peftjs/conformance';
import { expect, it } from 'vitest';
import { loraDelta } from '../ranks/factors.js';
import { createRng, type Rng } from '../rng.js';
import { hostTensor } from '../tensors.js';
import { combined, combinationTypes, type CombinationOptions, type CombinationType } from './combination.js';

/** What is kept of each tensor, as zeros and ones. */
type Masks = readonly string[] | Readonly<Record<'loraA' | 'loraB', readonly string[]>>;

/** Written by tools/golden/combinations.py, with options under PEFT's names. */
const golden = JSON.parse(
  await readFile(new URL('../../test/fixtures/combinations.json', import.meta.url), 'utf8'),
) as {
  readonly sizes: readonly [inputs: number, rank: number, outputs: number];
  readonly adapters: readonly { loraA: number[]; loraB: number[]; scaling: number; weight: number }[];
  readonly cases: readonly {
    readonly options: {
      readonly combination_type: CombinationType;
      readonly density?: number;
      readonly svd_rank?: number;
      readonly svd_clamp?: number;
      readonly majority_sign_method?: CombinationOptions['majoritySignMethod'];
    };
    readonly masks?: Masks;
    readonly change: readonly number[];
  }[];
};
const [inputs, rank, outputs] = golden.sizes;
const parts = golden.adapters.map(({ loraA, loraB, scaling, weight }) => ({
  factors: {
    loraA: hostTensor(Float32Array.from(loraA), [inputs, rank]),
    loraB: hostTensor(Float32Array.from(loraB), [rank, outputs]),
    scaling,
  },
  weight,
}));

/** Draws zero for every one of the masks, which keeps the entry, and one for every zero. */
function drawing(masks?: Masks | string): Rng {
  let drawn = 0;
  return {
    ...createRng(0),
    uniform: () => 1 - Number((masks as string)[drawn++]),
    fork: (label) => drawing((masks as Readonly<Record<string, string>> | undefined)?.[label]),
  };
}

it.each(golden.cases.map((each) => [each.options, each] as const))(
  "PEFT's combination is the same: %j",
  (options, { masks, change }) => {
    const { combination_type, density = 1, svd_rank = rank, svd_clamp, majority_sign_method = 'total' } = options;
    const found = combined(combination_type, parts, {
      density,
      rank: svd_rank,
      clamp: svd_clamp,
      majoritySignMethod: majority_sign_method,
      rng: drawing(masks),
    });
    expect(relativeDistance(loraDelta(found), change)).toBeLessThan(1e-5);
  },
);

it('every type is compared', () => {
  expect(new Set(golden.cases.map(({ options }) => options.combination_type))).toEqual(new Set(combinationTypes));
});
