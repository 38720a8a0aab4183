import { addWeightedAdapter, loadAdapter, loadPretrained, setAdapter, type PeftModel } from '@peftjs/core';
import type { CombinationType } from '@peftjs/core/model';
import { relativeDistance } from '@peftjs/conformance';
import { beforeAll, describe, expect, it } from 'vitest';
import { fixtures, logitsOf, methods, model, readJson, TOLERANCE } from './bert.js';

/** Written by tools/golden/peft_weighted.py, with options under PEFT's names. */
const { cases } = readJson('weighted/expected.json') as {
  cases: {
    adapters: string[];
    weights: number[];
    options: {
      combination_type: CombinationType;
      density?: number;
      svd_rank?: number;
      svd_clamp?: number;
      majority_sign_method?: 'total' | 'frequency';
    };
    logits: number[][];
  }[];
};

describe("PEFT's weighted adapters", () => {
  let peft: PeftModel;
  beforeAll(async () => {
    peft = await loadPretrained(model, `${fixtures}/weighted/a`, { methods, adapterName: 'a' });
    for (const adapterName of ['b', 'c']) {
      await loadAdapter(peft, `${fixtures}/weighted/${adapterName}`, { methods, adapterName });
    }
  });

  it.each(cases)('have the same logits here: $adapters by $weights, $options', async (golden) => {
    const { combination_type, svd_rank, svd_clamp, density, majority_sign_method } = golden.options;
    const adapterName = `combined-${cases.indexOf(golden)}`;
    addWeightedAdapter(peft, {
      adapters: golden.adapters,
      weights: golden.weights,
      adapterName,
      combinationType: combination_type,
      ...(svd_rank !== undefined && { svdRank: svd_rank }),
      ...(svd_clamp !== undefined && { svdClamp: svd_clamp }),
      ...(density !== undefined && { density }),
      ...(majority_sign_method && { majoritySignMethod: majority_sign_method }),
    });
    setAdapter(peft, adapterName);
    expect(relativeDistance(await logitsOf(peft), golden.logits.flat())).toBeLessThan(TOLERANCE);
  });

  it('are the sum of one adapter whatever the type, which then needs no density', async () => {
    const one = { adapters: ['a'], weights: [0.5] };
    addWeightedAdapter(peft, { ...one, adapterName: 'linear-a', combinationType: 'linear' });
    addWeightedAdapter(peft, { ...one, adapterName: 'ties-a', combinationType: 'ties' });
    setAdapter(peft, 'linear-a');
    const expected = await logitsOf(peft);
    setAdapter(peft, 'ties-a');
    expect(await logitsOf(peft)).toEqual(expected);
  });
});
