import { activeAdapter, attach } from '@peftjs/core';
import { mapValues } from '@peftjs/core/method';
import { describe, expect, it } from 'vitest';
import { resolveMethod } from '../../packages/cli/src/registry/methods.js';
import { fitConfig } from '../../packages/cli/src/study/budgets.js';
import { composeStudy } from '../../packages/cli/src/study/study.js';
import { bertShapes } from './shapes.js';

const model = bertShapes('small', 2, 16, 32);

/** An arm of a study with one scale, or without. */
interface Arm {
  readonly method: string;
  readonly options?: Record<string, unknown>;
  readonly budget?: string;
  readonly scaling?: number | null;
}

/** Fits an arm as a study does. */
async function fitted({ method: name, options = {}, budget, scaling = null }: Arm) {
  const { method } = await resolveMethod(name);
  const study = { model: 'shapes', tasks: ['none'], seeds: 1, budgets: ['r=1'], protocol: { scaling } };
  const { protocol, methods } = composeStudy([{ ...study, methods: { arm: { method: name, options } } }]);
  const settings = methods.arm ?? expect.fail('no arm');
  return { method, config: fitConfig(method, model, { budget: budget ?? null, settings, protocol }).config };
}

/** The different scales of an arm's modules, by their layers, and by the factors of their changes where they have them. */
async function scalesOf(arm: Arm): Promise<number[]> {
  const { layers } = activeAdapter(attach(model, await fitted(arm), { seed: 1 }));
  const scales = Object.values(layers).flatMap((layer) => {
    const values = mapValues({ ...layer.params, ...layer.state }, ({ initial }) => initial);
    return [layer.scaling, layer.toLora?.(values).scaling ?? layer.scaling].map((scale) => Number(scale?.toFixed(9)));
  });
  return [...new Set(scales)];
}

describe('without a scale of the study, arms differ at one budget', () => {
  it.each<[Arm, number]>([
    [{ method: 'lora', budget: 'r=1' }, 8],
    [{ method: 'lora', budget: 'r=4' }, 2],
    [{ method: 'sora', budget: 'r=1' }, 2],
    [{ method: 'adalora', budget: 'r=4' }, 8 / (6 + 1e-5)],
  ])('%j has scale %d', async (arm, scale) => {
    expect(await scalesOf(arm)).toEqual([expect.closeTo(scale, 8)]);
  });
});

describe('the scale of a study', () => {
  const uneven = { rankPattern: { 'layer.0.attention.self.query': 2, value: 3 } };

  it.each<Arm>([
    { method: 'lora', budget: 'r=1' },
    { method: 'lora', budget: 'r=4' },
    { method: 'lora', budget: '300' },
    { method: 'lora', options: uneven },
    { method: 'lora', options: { ...uneven, useRslora: true } },
    { method: 'lora', budget: 'r=4', options: { useDora: true } },
    { method: 'adalora', budget: 'r=2' },
    { method: 'adalora', budget: 'r=2', options: { parametrization: 'lora' } },
    { method: 'sora', budget: 'r=1' },
    { method: 'sora', budget: 'r=4' },
    { method: 'sora', budget: 'auto' },
    { method: 'sora', options: uneven },
    { method: 'l1ra', budget: 'r=2' },
    { method: 'truncated-lora', budget: 'r=2' },
    { method: 'loha', budget: 'r=4' },
    { method: 'loha', options: uneven },
    { method: 'lokr', budget: 'r=4' },
  ])('is that of every module of %j', async (arm) => {
    expect(await scalesOf({ ...arm, scaling: 1.5 })).toEqual([1.5]);
  });

  it('reaches modules with different ranks of one budget', async () => {
    const { config } = await fitted({ method: 'lora', budget: '300' });
    expect(config).toHaveProperty('rankPattern', { 'layer.0.attention.self.query': 3 });
  });

  it.each(['ia3', 'oft', 'bitfit', 'houlsby', 'vera', 'full', 'head'])('does not change %s', async (method) => {
    expect((await fitted({ method, scaling: 1.5 })).config).toEqual((await fitted({ method })).config);
  });
});
