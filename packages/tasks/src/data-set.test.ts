import { afterEach, describe, expect, it, vi } from 'vitest';
import { createDataSet, type Row } from './data-set.js';

const fingerprintOf = async (rows: readonly Row[]): Promise<string> =>
  (await createDataSet({ name: 'rows', kind: 'classification', classes: ['a', 'b'], rows })).fingerprint;

afterEach(() => {
  vi.restoreAllMocks();
});

describe('the fingerprint of a data set', () => {
  it('does not change from one version to the next', async () => {
    const rows = Array.from({ length: 2500 }, (_, row) => ({ text: `row ${row} "é"`, label: row % 2 }));
    expect(await fingerprintOf(rows)).toBe('07a9fc5bf84baa7e5b76cb0186eb32e415af26ee83f57994c4fe981b16483e37');
  });

  it('serialises one row at a time: a thousand long rows would not fit into one string', async () => {
    const stringify = vi.spyOn(JSON, 'stringify');
    await fingerprintOf(Array.from({ length: 1024 }, (_, row) => ({ text: 'x'.repeat(1000), label: row % 2 })));
    const lengths = stringify.mock.results.map(({ value }) => (value as string).length);
    expect(Math.max(...lengths)).toBeLessThan(1100);
  });
});
