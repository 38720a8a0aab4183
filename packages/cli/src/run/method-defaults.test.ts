import { expect, it } from 'vitest';
import { smallStudy } from '../../test/studies.js';
import { resolveMethod } from '../registry/methods.js';
import { withMethodDefaults } from './plan-run.js';

/** The given arms' rates and options in a study with the given rate for all. */
async function filled(learningRate: number | null, kind: 'embedded' | 'folder', methods: Record<string, unknown>) {
  const study = smallStudy({ methods, protocol: { learningRate } });
  const names = [...new Set(Object.values(study.methods).map(({ method }) => method))];
  const resolved = new Map(await Promise.all(names.map(async (name) => [name, await resolveMethod(name)] as const)));
  const arms = Object.entries(withMethodDefaults(study, { kind }, resolved).methods);
  return Object.fromEntries(arms.map(([arm, settings]) => [arm, [settings.learningRate, settings.options]]));
}

const arms = {
  head: {},
  lora: {},
  adalora: {},
  own: { method: 'adalora', learningRate: 2e-4, options: { loraAlpha: 16 } },
};

it("trains each adapter at its method's rate, the head at the protocol's, and keeps what an arm states", async () => {
  expect(await filled(null, 'embedded', arms)).toEqual({
    head: [null, {}],
    lora: [1e-3, {}],
    adalora: [8e-3, {}],
    own: [2e-4, { loraAlpha: 16 }],
  });
});

it("prefers the study's rate for all to the methods' own", async () => {
  expect(await filled(3e-4, 'embedded', arms)).toEqual({
    head: [null, {}],
    lora: [null, {}],
    adalora: [null, {}],
    own: [2e-4, { loraAlpha: 16 }],
  });
});

it("takes a method's options for short runs only for the user's own data, and only where an arm is silent", async () => {
  const { shortRunOptions } = (await resolveMethod('adalora')).method;
  const own = { adalora: {}, replica: { method: 'adalora', options: { orthRegWeight: 0.1 } }, lora: {} };
  expect(await filled(1, 'folder', own)).toEqual({
    adalora: [null, shortRunOptions],
    replica: [null, { ...shortRunOptions, orthRegWeight: 0.1 }],
    lora: [null, {}],
  });
  expect(shortRunOptions).toHaveProperty('orthRegWeight', 0);
});
