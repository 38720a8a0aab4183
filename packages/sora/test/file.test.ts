import { onWarning } from '@peftjs/core';
import { mapValues, tensorAt, type AdapterLayers, type HostTensors } from '@peftjs/core/method';
import { linearSite } from '@peftjs/core/model';
import { withRankCounts } from '@peftjs/core/ranks';
import { loraDelta } from '@peftjs/core/linalg';
import { adapterValues, layersOf, relativeDistance } from '@peftjs/conformance';
import { sora } from '@peftjs/sora';
import { beforeAll, describe, expect, it } from 'vitest';
import { trainedOf } from './harness.js';

const sites = [linearSite('enc.0.up', 3, 5), linearSite('enc.0.down', 5, 3), linearSite('enc.1.up', 3, 5)];
const config = sora.parseConfig({ r: 4, loraAlpha: 16, rankPattern: { 'enc.1.up': 2 }, budget: 40 });
const layers = layersOf(sora, sites, config);
const gates = { 'enc.0.up': [0, 1, 0, -2], 'enc.0.down': [0, 0, 0, 0], 'enc.1.up': [0.5, 0] };
const values = adapterValues(mapValues(gates, (gate, path) => trainedOf(tensorAt(layers, path), gate)));

const deltaOf = (of: AdapterLayers, from: HostTensors, path: string): Float32Array => {
  const names = ['loraA', 'loraB', 'gate', 'mask'];
  const own = Object.fromEntries(names.map((name) => [name, tensorAt(from, `${path}.${name}`)]));
  return loraDelta(tensorAt(of, path).toLora?.(own) ?? expect.fail('toLora is missing'));
};

beforeAll(() => onWarning((message) => expect.fail(message)));

describe('a pruned file', () => {
  const file = sora.toFile({ config, layers, values }, { pruned: true });

  it("is PEFT's LORA, with the scaling of r_max and without gates or fully pruned modules", () => {
    expect(file.config).toMatchObject({
      peft_type: 'LORA',
      r: 2,
      rank_pattern: { 'enc.1.up': 1 },
      lora_alpha: 8,
      target_modules: ['enc.0.up', 'enc.1.up'],
      exclude_modules: ['enc.0.down'],
    });
    expect(Object.keys(file.tensors).filter((key) => key.includes('gate'))).toEqual([]);
    expect(file.tensors['enc.0.up.lora_A.weight']?.shape).toEqual([2, 3]);
    expect(file.tensors['enc.0.up.lora_B.weight']?.shape).toEqual([5, 2]);
  });

  it('reads back, with gates of one, as the same change of every weight', () => {
    const read = sora.fromFile(file);
    const again = layersOf(sora, sites.slice(0, 1).concat(sites.slice(2)), read.config);
    for (const path of ['enc.0.up', 'enc.1.up']) {
      expect([...tensorAt(read.values, `${path}.gate`).data].every((gate) => gate === 1)).toBe(true);
      expect(relativeDistance(deltaOf(again, read.values, path), deltaOf(layers, values, path))).toBeLessThan(1e-6);
    }
  });
});

describe('an unpruned file', () => {
  const file = sora.toFile({ config, layers, values }, { pruned: false });

  it('holds A, B and gates unchanged', () => {
    expect(file.config).toMatchObject({ peft_type: 'SORA', r: 4, lora_alpha: 16, budget: 40, threshold_mode: 'lr' });
    expect(file.tensors['enc.0.down.gate']?.shape).toEqual([4]);
    expect(file.tensors['enc.0.down.lora_A.weight']?.shape).toEqual([4, 5]);
  });

  it('reads back unchanged', () => {
    const read = sora.fromFile(file);
    expect(read.values).toEqual(values);
    const { targetModules, ...options } = sora.parseConfig(read.config);
    expect(targetModules).toEqual(sites.map(({ path }) => path));
    expect(options).toEqual({ ...config, targetModules: undefined });
  });

  it('has the weight of the L1 term for the ranks that are left', () => {
    const weighted = { ...config, l1Weight: 12 };
    const kept = withRankCounts(layers, [4, 1, 0]); // of 4, 4 and 2
    const written = sora.toFile({ config: weighted, layers: kept, values }, { pruned: false });
    expect(written.config.l1_weight).toBe(12 * (5 / 10));
  });

  it('names a gate that is missing or too long', () => {
    const { 'enc.0.up.gate': gate, ...rest } = file.tensors;
    const problem: unknown = expect.objectContaining({ code: 'PEFT_CHECKPOINT', path: 'enc.0.up.gate' });
    expect(() => sora.fromFile({ ...file, tensors: rest })).toThrow(problem);
    const long = { shape: [3], dtype: 'float32' as const, data: new Float32Array(3) };
    expect(gate).toBeDefined();
    expect(() => sora.fromFile({ ...file, tensors: { ...rest, 'enc.0.up.gate': long } })).toThrow(problem);
  });
});
