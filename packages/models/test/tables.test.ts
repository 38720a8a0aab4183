import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { relativeRow } from '../src/architectures/deberta-v2-relative.js';
import { relativeBucket } from '../src/architectures/mpnet.js';
import { attentionFactorOf, ropeFrequencies, ropeSettings } from '../src/rope.js';

/** Reads a table generated with transformers by tools/golden/architectures.py. */
function golden(name: string): unknown {
  return (JSON.parse(readFileSync(new URL(`fixtures/${name}.json`, import.meta.url), 'utf8')) as { tables: unknown })
    .tables;
}

describe('rows of the table of relative positions', () => {
  const tables = golden('relative') as { buckets: number; most: number; values: number[] }[];

  it.each(tables)('match transformers for $buckets buckets of $most distances', ({ buckets, most, values }) => {
    const config = { positionBuckets: buckets, maxRelativePositions: most };
    expect(values.map((_, index) => relativeRow(index - 600, config))).toEqual(values);
  });

  it('are clipped distances without buckets', () => {
    const config = { positionBuckets: null, maxRelativePositions: 3 };
    expect([-4, -3, -2, 0, 2, 3, 4].map((distance) => relativeRow(distance, config))).toEqual([0, 0, 1, 3, 5, 5, 5]);
  });
});

it("MPNet's buckets match transformers", () => {
  const buckets = golden('mpnet-buckets') as number[];
  expect(Array.from(buckets, (_, at) => relativeBucket(at - 600))).toEqual(buckets);
});

describe('RoPE frequencies', () => {
  const tables = golden('rope') as {
    rope: Record<string, unknown>;
    values: number[];
    factor: number;
    long?: number[];
  }[];
  const heads = { headDim: 64, maxPositionEmbeddings: 131_072 };

  it.each(tables)('match transformers: $rope.rope_type', ({ rope, values, factor, long }) => {
    const { rope_theta, rope_type, ...factors } = rope;
    const current = { file: 'config.json', settings: { rope_parameters: rope }, read: new Set<string>() };
    const oldSettings = { rope_theta, rope_scaling: { type: rope_type, ...factors } };
    const older = { file: 'config.json', settings: oldSettings, read: new Set<string>() };
    for (const config of [current, older]) {
      const own = ropeSettings(config, heads);
      expectClose(ropeFrequencies(own, 64), values);
      expect(attentionFactorOf(own)).toBeCloseTo(factor, 6);
      if (long) expectClose(ropeFrequencies(own, 64, true), long);
    }
  });

  function expectClose(frequencies: Float32Array, expected: readonly number[]): void {
    expect(frequencies).toHaveLength(32);
    frequencies.forEach((frequency, index) => {
      expect(frequency / (expected[index] as number)).toBeCloseTo(1, 6);
    });
  }
});
