import { adalora } from '@peftjs/adalora';
import { onWarning } from '@peftjs/core';
import {
  createRng,
  hostZeros,
  mapValues,
  readLoraFile,
  tensorAt,
  type AdapterFile,
  type HostTensors,
} from '@peftjs/core/method';
import { linearSite, storedParameters } from '@peftjs/core/model';
import { loraDelta, nonZeroIndices, normalValues, pickColumns, pickRows } from '@peftjs/core/linalg';
import { beforeAll, describe, expect, it } from 'vitest';
import { adapterValues, hostVector, initialOf, layersOf, relativeDistance } from '@peftjs/conformance';

const sites = [linearSite('enc.0', 3, 5), linearSite('enc.1', 5, 3), linearSite('enc.2', 3, 5)];
const config = adalora.parseConfig({
  initR: 3,
  targetR: 1,
  loraAlpha: 6,
  tinit: 10,
  budgetUnit: 'parameters',
  budget: 20,
});
const layers = layersOf(adalora, sites, config);
const singular = { 'enc.0': [0, 2, -1], 'enc.1': [0, 0, 0], 'enc.2': [0.5, 0, 0] };
const masks = { 'enc.0': [0, 1, 1], 'enc.1': [0, 0, 0], 'enc.2': [1, 0, 0] };
const values = adapterValues(
  mapValues(layers, (layer, path) => ({
    ...initialOf(layer),
    loraE: hostVector(singular[path as keyof typeof singular]),
    mask: hostVector(masks[path as keyof typeof masks]),
  })),
);

const deltaOf = (from: HostTensors, path: string): Float32Array => {
  const names = ['loraA', 'loraE', 'loraB'];
  const own = Object.fromEntries(names.map((name) => [name, tensorAt(from, `${path}.${name}`)]));
  return loraDelta(tensorAt(layers, path).toLora?.(own) ?? expect.fail('toLora is missing'));
};

beforeAll(() => onWarning((message) => expect.fail(message)));

describe('a pruned file', () => {
  const file = adalora.toFile({ config, layers, values }, { pruned: true });

  it("is PEFT's LORA with the singular values folded in, without modules of rank zero, and as large as counted", () => {
    expect(file.config).toMatchObject({
      peft_type: 'LORA',
      r: 2,
      rank_pattern: { 'enc.2': 1 },
      target_modules: ['enc.0', 'enc.2'],
      exclude_modules: ['enc.1'],
    });
    const shape = (name: string) => tensorAt(file.tensors, name).shape;
    expect(Object.keys(file.tensors).map(shape)).toEqual([
      [2, 3],
      [5, 2],
      [1, 3],
      [5, 1],
    ]);
    const held = Object.values(file.tensors).reduce((sum, { data }) => sum + data.length, 0);
    expect(storedParameters(layers, values)).toBe(held);
  });

  it('has the same change of every weight, with the scaling of the initial rank', () => {
    const { values: read, alphaPattern, loraAlpha } = readLoraFile(file);
    for (const path of ['enc.0', 'enc.2']) {
      const [loraA, loraB] = [tensorAt(read, `${path}.loraA`), tensorAt(read, `${path}.loraB`)];
      const scaling = (alphaPattern[path] ?? loraAlpha) / (loraA.shape[1] as number);
      expect(relativeDistance(loraDelta({ loraA, loraB, scaling }), deltaOf(values, path))).toBeLessThan(1e-6);
    }
  });
});

/** What PEFT writes: an unpruned file without our own options, and only with the triplets that the masks keep. */
function allocatedFile(): AdapterFile {
  const { config: fields, tensors } = adalora.toFile({ config, layers, values }, { pruned: false });
  const kept = (path: string): number[] => nonZeroIndices(tensorAt(values, `${path}.mask`));
  const picked = sites.flatMap(({ path }) => [
    [`${path}.lora_A`, pickRows(tensorAt(tensors, `${path}.lora_A`), kept(path))] as const,
    [`${path}.lora_E`, pickRows(tensorAt(tensors, `${path}.lora_E`), kept(path))] as const,
    [`${path}.lora_B`, pickColumns(tensorAt(tensors, `${path}.lora_B`), kept(path))] as const,
  ]);
  const pattern = sites.map(({ path }) => [`${path}.lora_E`, masks[path as keyof typeof masks].map(Boolean)] as const);
  const { budget: _, budget_unit: __, ...theirs } = fields;
  return { config: { ...theirs, rank_pattern: Object.fromEntries(pattern) }, tensors: Object.fromEntries(picked) };
}

it("PEFT's ADALORA with allocated ranks is read as the same change of every weight, with masks", () => {
  const read = adalora.fromFile(allocatedFile());
  for (const { path } of sites) {
    expect(deltaOf(read.values, path)).toEqual(deltaOf(values, path));
    expect(tensorAt(read.values, `${path}.mask`)).toEqual(tensorAt(values, `${path}.mask`));
  }
  expect(Object.keys(read.values).sort()).toEqual(Object.keys(values).sort());
  expect(adalora.parseConfig(read.config)).toMatchObject({ initR: 3, targetR: 1, tinit: 10, tfinal: null });
});

it.each([8, undefined])(
  "PEFT's ADALORA with a target_r of %s above init_r is read with init_r as the target",
  (target) => {
    const { config, tensors } = allocatedFile();
    const read = adalora.fromFile({ config: { ...config, target_r: target }, tensors });
    expect(read.config).toMatchObject({ initR: 3, targetR: 3 });
  },
);

describe('an unpruned file', () => {
  it("is PEFT's ADALORA: everything except masks and scores, and the options that PEFT does not have", () => {
    const file = adalora.toFile({ config, layers, values }, { pruned: false });
    expect(file.config).toMatchObject({
      peft_type: 'ADALORA',
      init_r: 3,
      target_r: 1,
      lora_alpha: 6,
      tinit: 10,
      tfinal: 0,
      deltaT: 1,
      beta1: 0.85,
      beta2: 0.85,
      orth_reg_weight: 0.5,
      target_modules: ['enc.0', 'enc.1', 'enc.2'],
      rank_pattern: null,
      budget_unit: 'parameters',
      budget: 20,
    });
    const { tinit, tfinal, total_step: total } = file.config as Record<string, number>;
    expect(tinit).toBeLessThan((total ?? 0) - (tfinal ?? 0)); // PEFT rejects anything else
    const read = adalora.fromFile(file);
    for (const { path } of sites) {
      for (const name of ['loraA', 'loraE', 'loraB']) {
        expect(read.values[`${path}.${name}`]).toEqual(values[`${path}.${name}`]);
      }
    }
    expect(adalora.parseConfig(read.config)).toEqual({ ...config, targetModules: sites.map(({ path }) => path) });
  });

  it.each([
    { totalStep: null, tinit: 0, tfinal: 0 },
    { totalStep: null, tinit: null, tfinal: 3 },
    { totalStep: 12, tinit: 5, tfinal: 6 },
    { totalStep: 15, tinit: 0, tfinal: 3 },
  ])('gives back the phases of %j', (phases) => {
    const file = adalora.toFile({ config: { ...config, ...phases }, layers, values }, { pruned: false });
    expect(adalora.parseConfig(adalora.fromFile(file).config)).toMatchObject(phases);
  });
});

describe('a broken file', () => {
  const { config: fields, tensors } = allocatedFile();
  const drawn = normalValues(createRng(1), [2, 4], 1);

  it.each([
    ['enc.0.lora_B', { ...tensors, 'enc.0.lora_B': undefined }, fields],
    ['enc.0.lora_B', { ...tensors, 'enc.0.lora_B': drawn }, fields],
    ['enc.0.lora_E', { ...tensors, 'enc.0.lora_E': hostZeros([3, 1]) }, fields],
    ['enc.1.lora_E', tensors, { ...fields, rank_pattern: { 'enc.0.lora_E': [false, true, true] } }],
    ['enc.0.lora_E', tensors, { ...fields, rank_pattern: { 'enc.0.lora_E': [false, true] } }],
    ['init_r', tensors, { ...fields, init_r: '3' }],
  ])('names the invalid tensor or field: %s', (path, held, config) => {
    const present = Object.fromEntries(
      Object.entries(held).filter(([, tensor]) => tensor !== undefined),
    ) as HostTensors;
    expect(() => adalora.fromFile({ config, tensors: present })).toThrow(
      expect.objectContaining({ code: 'PEFT_CHECKPOINT', path }),
    );
  });
});
