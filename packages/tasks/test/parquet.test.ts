import { describe, expect, it } from 'vitest';
import { type LabelKind, readTable } from '@peftjs/tasks';
import { expectDataError, fixture } from './files.js';

const readFixture = async (name: string) => readTable<LabelKind>(await fixture(`parquet/${name}`), { path: name });

/** The rows that the generator of the fixtures wrote. */
const texts = ['good', 'bad', 'naïve 日本 😀', 'good', 'bad, "very"\tbad', 'fine'];
const labels = [1, 0, 1, 1, 0, 1];

describe('a Parquet file', () => {
  it.each([
    ['snappy.parquet', 'as the hub writes it'],
    ['plain.parquet', 'without compression and dictionary'],
    ['second-version.parquet', 'with the second version of pages'],
    ['groups.parquet', 'in groups of rows'],
    ['pages.parquet', 'in many pages'],
    ['required.parquet', 'whose values cannot be missing'],
    ['large-string.parquet', 'of large strings'],
    ['beside-structure.parquet', 'with other columns'],
  ])('%s: %s', async (name) => {
    const { rows, kind, classes } = await readFixture(name);
    expect(rows).toEqual(texts.map((text, row) => ({ text, label: labels[row] })));
    expect([kind, classes]).toEqual(['classification', ['0', '1']]);
  });

  it('has the fingerprint of a text file with the same rows', async () => {
    const lines = texts.map((text, row) => JSON.stringify({ text, label: labels[row] })).join('\n');
    const fromText = await readTable(new TextEncoder().encode(lines), { path: 'rows.jsonl' });
    expect((await readFixture('snappy.parquet')).fingerprint).toBe(fromText.fingerprint);
  });

  it('has class names', async () => {
    const { rows, classes } = await readFixture('named.parquet');
    expect([classes, rows.map(({ label }) => label)]).toEqual([['neg', 'pos'], labels]);
  });

  it('has the numbers as written, before they became float32', async () => {
    const { rows, kind } = await readFixture('scores.parquet');
    expect([kind, rows.map(({ label }) => label)]).toEqual(['regression', [3.8, 0.1, 2.333, 5, 1e-7, 4.75]]);
    const doubles = (await readFixture('doubles.parquet')).rows.map(({ label }) => label);
    expect(doubles).toEqual([3.8, 0.1, 2.333, 5, 1e-7, 4.75].map(Math.fround));
  });
});

describe('what cannot be read', () => {
  it.each([
    ['missing.parquet', 'missing.parquet:2', 'no text'],
    ['empty.parquet', 'rows'],
    ['list.parquet', '"text"', 'a list'],
    ['date.parquet', 'date.parquet:1', '"label"'],
    ['zstd.parquet', 'snappy', 'ZSTD'],
    ['delta.parquet', 'DELTA_BINARY_PACKED'],
  ])('rejects %s', async (name, ...parts) => {
    await expectDataError(readFixture(name), name, ...parts);
  });

  it.each([
    ['an empty file', new Uint8Array()],
    ['a text', new TextEncoder().encode('text\tlabel\na\t0\nb\t1\n')],
    ['only a footer', new TextEncoder().encode('\x00\x00\x00\x00PAR1')],
    ['a footer longer than the file', new TextEncoder().encode('PAR1\xff\x00\x00\x00PAR1')],
  ])('rejects %s', async (_, bytes) => {
    await expectDataError(readTable(bytes, { path: 'a.parquet' }), 'a.parquet', 'expected a Parquet file');
  });

  it('rejects a file that is truncated anywhere', async () => {
    const whole = await fixture('parquet/snappy.parquet');
    for (let length = 0; length < whole.length; length++) {
      await expectDataError(readTable(whole.subarray(0, length), { path: 'cut.parquet' }), 'cut.parquet');
    }
  });

  it.each(['snappy.parquet', 'plain.parquet', 'second-version.parquet', 'groups.parquet'])(
    'reads %s with any byte changed, or rejects it with a DataError',
    async (name) => {
      const whole = await fixture(`parquet/${name}`);
      let refused = 0;
      for (let at = 0; at < whole.length; at++) {
        for (const bits of [1, 8, 64, 128, 255]) {
          const changed = whole.slice();
          changed[at] = (changed[at] as number) ^ bits;
          const outcome = readTable(changed, { path: 'changed.parquet' });
          if (
            await outcome.then(
              () => false,
              () => true,
            )
          ) {
            refused++;
            await expectDataError(outcome, 'changed.parquet');
          }
        }
      }
      expect(refused).toBeGreaterThan(whole.length);
    },
  );

  it('reads from the middle of a larger buffer', async () => {
    const whole = await fixture('parquet/snappy.parquet');
    const larger = new Uint8Array(whole.length + 20).fill(7);
    larger.set(whole, 10);
    const { rows } = await readTable(larger.subarray(10, 10 + whole.length), { path: 'part.parquet' });
    expect(rows).toHaveLength(6);
  });
});
