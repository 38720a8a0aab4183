import { bitfit, full, head, houlsby, ia3, pfeiffer } from '@peftjs/baselines';
import { floats } from '@peftjs/core/method';
import { describe, expect, it } from 'vitest';
import { countOn, debertaV3Base } from './deberta-v3-base.js';

/** Returns the number of stored parameters, after checking that it equals the trained ones. */
const stored = (...[method]: Parameters<typeof countOn>): number => {
  const count = countOn(method);
  expect(count.trainable).toBe(count.stored);
  return count.stored;
};

describe("parameters on DeBERTaV3-base's shapes", () => {
  it("of the model itself equal transformers' count", () => {
    expect(countOn(head()).base).toBe(183_831_552);
    expect(Object.values(debertaV3Base.weights).every((weight) => floats(weight).length === 0)).toBe(true);
  });

  it('of the head alone are none', () => {
    expect(stored(head())).toBe(0);
  });

  it('of full fine-tuning are all', () => {
    expect(stored(full())).toBe(183_831_552);
  });

  it("of only the layers' norms are 36,864", () => {
    expect(stored(full({ targetModules: String.raw`.*\.layer\..*\.LayerNorm` }))).toBe(36_864);
  });

  it('of BitFit are 101,376, or 64,512 with the names of OpenDelta', () => {
    expect(stored(bitfit())).toBe(101_376);
    expect(stored(bitfit({ biases: 'opendelta' }))).toBe(64_512);
  });

  it.each([
    [8, 313_536, '0.314'],
    [12, 461_088, '0.461'],
    [16, 608_640, '0.609'],
    [32, 1_198_848, '1.199'],
    [64, 2_379_264, '2.38'],
  ])('of Houlsby adapters of width %i are %i, printed as %s million', (bottleneck, exact, printed) => {
    expect(stored(houlsby({ bottleneck }))).toBe(exact);
    expect((exact / 1e6).toFixed(printed.length - 2)).toBe(printed);
  });

  it.each([
    ['houlsby', houlsby, 8, 0.31],
    ['houlsby', houlsby, 16, 0.61],
    ['houlsby', houlsby, 32, 1.22],
    ['pfeiffer', pfeiffer, 16, 0.3],
    ['pfeiffer', pfeiffer, 32, 0.6],
    ['pfeiffer', pfeiffer, 64, 1.18],
  ])("of %s adapters equal those of the AdaLoRA paper's table, within 2 %%", (_, method, bottleneck, millions) => {
    expect(Math.abs(stored(method({ bottleneck })) / 1e6 / millions - 1)).toBeLessThan(0.02);
  });

  it.each([
    [16, 304_320],
    [32, 599_424],
    [64, 1_189_632],
  ])('of Pfeiffer adapters of width %i are %i', (bottleneck, exact) => {
    expect(stored(pfeiffer({ bottleneck }))).toBe(exact);
  });

  it('of IA3 are layers (d_k + d_v + d_ff)', () => {
    expect(stored(ia3())).toBe(12 * (768 + 768 + 3072));
  });
});
