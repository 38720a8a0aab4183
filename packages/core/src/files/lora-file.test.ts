import { describe, expect, it } from 'vitest';
import { CheckpointError, UnsupportedError } from '../errors.js';
import { loraDelta, normalValues } from '../ranks/factors.js';
import { loraFile, readLoraFile } from './lora-file.js';
import type { AdapterLayer, LoraFactors } from '../contracts/layer.js';
import type { AdapterFile } from '../contracts/method.js';
import { createRng } from '../rng.js';
import { patternValue } from '../adapter/targets.js';
import { hostTensor, hostZeros, type HostTensors } from '../tensors.js';

const rng = createRng(5);
const factorsOf = (inFeatures: number, outFeatures: number, rank: number, scaling: number): LoraFactors => ({
  loraA: normalValues(rng, [inFeatures, rank], 1),
  loraB: normalValues(rng, [rank, outFeatures], 1),
  scaling,
});

const layerOf = (path: string, factors: LoraFactors): AdapterLayer => ({
  site: { path, kind: 'linear', role: 'other', inFeatures: 3, outFeatures: 5, hasBias: false },
  params: {},
  forward: (_x, _p, at) => at.base(),
  toLora: () => factors,
  storedParameters: () => 0,
});

const fileOf = (modules: Readonly<Record<string, LoraFactors>>): AdapterFile =>
  loraFile({
    layers: Object.fromEntries(Object.entries(modules).map(([path, factors]) => [path, layerOf(path, factors)])),
    values: {},
  });

const modules = {
  'enc.0.q': factorsOf(3, 5, 2, 0.25),
  'enc.0.k': factorsOf(3, 5, 4, 0.25),
  'enc.1.q': factorsOf(3, 5, 4, 0.25),
  'enc.1.k': factorsOf(3, 5, 0, 0.25),
};

describe('loraFile', () => {
  it('writes ranks and alphas module by module, and leaves out modules without a rank', () => {
    const { config, tensors } = fileOf(modules);
    expect(config).toMatchObject({
      peft_type: 'LORA',
      r: 4,
      lora_alpha: 1,
      rank_pattern: { 'enc.0.q': 2 },
      alpha_pattern: { 'enc.0.q': 0.5 },
      target_modules: ['enc.0.q', 'enc.0.k', 'enc.1.q'],
      exclude_modules: ['enc.1.k'],
    });
    expect(tensors['enc.0.q.lora_A.weight']?.shape).toEqual([2, 3]);
    expect(tensors['enc.0.q.lora_B.weight']?.shape).toEqual([5, 2]);
    expect(Object.keys(tensors)).toHaveLength(6);
  });

  it('writes one rank of zeros when every rank is gone', () => {
    const { config, tensors } = fileOf({ q: factorsOf(3, 5, 0, 2), k: factorsOf(3, 5, 0, 2) });
    expect(config).toMatchObject({ r: 1, target_modules: ['q'], exclude_modules: ['k'] });
    expect(tensors['q.lora_A.weight']).toEqual(hostZeros([1, 3]));
  });

  it('rejects a layer that is not a low-rank change', () => {
    const { toLora, ...layer } = layerOf('q', factorsOf(3, 5, 1, 1));
    expect(toLora).toBeDefined();
    expect(() => loraFile({ layers: { q: layer }, values: {} })).toThrow(UnsupportedError);
  });
});

describe('readLoraFile', () => {
  it('restores every change of a weight', () => {
    const read = readLoraFile(fileOf(modules));
    for (const path of read.targetModules) {
      const rank = patternValue(read.rankPattern, path) ?? read.r;
      const alpha = patternValue(read.alphaPattern, path) ?? read.loraAlpha;
      const [loraA, loraB] = [read.values[`${path}.loraA`], read.values[`${path}.loraB`]];
      if (!loraA || !loraB) throw new CheckpointError('missing', path);
      expect(loraA.shape).toEqual([3, rank]);
      const delta = loraDelta({ loraA, loraB, scaling: alpha / rank });
      expect(delta).toEqual(loraDelta(modules[path as keyof typeof modules]));
    }
  });

  const pair = (rank = 4): HostTensors => ({
    'q.lora_A.weight': hostZeros([rank, 3]),
    'q.lora_B.weight': hostZeros([5, rank]),
  });
  const config = { peft_type: 'LORA', r: 8, lora_alpha: 16 };
  it('reads ranks from the tensors, not from r', () => {
    expect(readLoraFile({ config, tensors: pair(2) })).toMatchObject({ r: 2, loraAlpha: 16, rankPattern: {} });
  });

  it("converts rsLoRA's alpha / sqrt(rank) to alpha / rank", () => {
    const read = readLoraFile({ config: { ...config, use_rslora: true }, tensors: pair() });
    expect(read.loraAlpha / read.r).toBeCloseTo(16 / Math.sqrt(4), 12);
  });

  it('rejects unknown tensors and variants', () => {
    const tensors = { ...pair(), 'q.unheard_of': hostZeros([1]) };
    expect(() => readLoraFile({ config, tensors })).toThrow(/holds 'q\.unheard_of', which this method does not read/);
    for (const field of ['kasa_config', 'monteclora_config', 'velora_config']) {
      expect(() => readLoraFile({ config: { ...config, [field]: {} }, tensors: pair() })).toThrow(`uses '${field}'`);
    }
    for (const init of ['corda', 'pissa_niter_4']) {
      expect(() => readLoraFile({ config: { ...config, init_lora_weights: init }, tensors: pair() })).toThrow(
        `'${init}', which changed the model's weights`,
      );
    }
  });

  it.each(['target_parameters', 'layer_replication', 'arrow_config', 'use_bdlora'])('reads an empty %s', (field) => {
    for (const empty of [[], {}]) {
      expect(readLoraFile({ config: { ...config, [field]: empty }, tensors: pair() }).r).toBe(4);
    }
    const used = { ...config, [field]: { nblocks: 2 } };
    expect(() => readLoraFile({ config: used, tensors: pair() })).toThrow(`uses '${field}'`);
  });

  it.each([
    ['q.lora_B.weight', { 'q.lora_A.weight': hostZeros([4, 3]) }],
    ['q.lora_A.weight', { 'q.lora_B.weight': hostZeros([5, 4]) }],
    ['q.lora_B.weight', { 'q.lora_A.weight': hostZeros([4, 3]), 'q.lora_B.weight': hostZeros([5, 3]) }],
    ['q.lora_A.weight', { ...pair(), 'q.lora_A.weight': hostZeros([12]) }],
    ['.lora_A.weight', {}],
  ])('names the tensor at fault: %s', (key, tensors: HostTensors) => {
    expect(() => readLoraFile({ config, tensors })).toThrow(
      expect.objectContaining({ code: 'PEFT_CHECKPOINT', path: key }),
    );
  });

  it.each([
    ['lora_alpha', { lora_alpha: 'many' }],
    ['alpha_pattern', { alpha_pattern: { q: '3' } }],
  ])('names the field at fault: %s', (field, broken) => {
    expect(() => readLoraFile({ config: { ...config, ...broken }, tensors: pair() })).toThrow(
      expect.objectContaining({ code: 'PEFT_CHECKPOINT', path: field }),
    );
  });

  it('rejects content that would change the outputs if it were left out', () => {
    expect(() => readLoraFile({ config: { ...config, use_dora: true }, tensors: pair() })).toThrow(UnsupportedError);
    const magnitude = { 'q.lora_magnitude_vector': hostTensor(new Float32Array(5), [5]) };
    expect(() => readLoraFile({ config, tensors: { ...pair(), ...magnitude } })).toThrow(/lora_magnitude_vector/);
  });
});
