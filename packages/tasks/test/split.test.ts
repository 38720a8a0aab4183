import { ConfigError, DataError } from '@peftjs/core/method';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createDataSet, flipLabels, sliceRows, splitSelection, type DataSet, type LabelKind } from '@peftjs/tasks';
import { classified } from './files.js';

const labelsOf = fc.array(fc.integer({ min: 0, max: 2 }), { minLength: 20, maxLength: 120 });
const seeds = fc.integer({ min: 0, max: 2 ** 31 });
const textsOf = ({ rows }: DataSet<LabelKind>) => rows.map(({ text }) => text);
const classSizes = ({ classes, rows }: DataSet<LabelKind>) =>
  classes.map((_, label) => rows.filter((row) => row.label === label).length);

describe('sliceRows', () => {
  it('draws each class in proportion, in the order of the rows', async () => {
    await fc.assert(
      fc.asyncProperty(
        labelsOf,
        fc.double({ min: 0.05, max: 0.95, noNaN: true }),
        seeds,
        async (labels, part, seed) => {
          const all = await classified(labels);
          const count = Math.max(1, Math.round(part * labels.length));
          const slice = await sliceRows(all, count, seed);
          expect(slice.rows).toHaveLength(count);
          const places = slice.rows.map(({ text }) => textsOf(all).indexOf(text));
          expect(places).toEqual([...new Set(places)].sort((a, b) => a - b));
          classSizes(slice).forEach((size, label) => {
            expect(Math.abs(size - ((classSizes(all)[label] ?? 0) * count) / labels.length)).toBeLessThan(1);
          });
        },
      ),
    );
  });

  it('only depends on the seed', async () => {
    const all = await classified(Array.from({ length: 200 }, (_, row) => row % 3));
    const fingerprints = await Promise.all([1, 1, 2].map(async (seed) => (await sliceRows(all, 60, seed)).fingerprint));
    expect(fingerprints[0]).toBe(fingerprints[1]);
    expect(fingerprints[0]).not.toBe(fingerprints[2]);
  });

  it('returns a data set that is small enough unchanged', async () => {
    const all = await classified([0, 1, 2]);
    expect(await sliceRows(all, 3, 1)).toBe(all);
    expect(await sliceRows(all, 100, 1)).toBe(all);
  });

  it.each([0, -1, 1.5, NaN])('rejects %s rows', async (count) => {
    await expect(sliceRows(await classified([0, 1]), count, 1)).rejects.toBeInstanceOf(ConfigError);
  });
});

describe('flipLabels', () => {
  it('changes the class of a share of each class, by the seed, and keeps the texts in order', async () => {
    const all = await classified(Array.from({ length: 300 }, (_, row) => row % 3));
    const flipped = await flipLabels(all, { share: 0.2, seed: 1 });
    const changed = flipped.rows.filter(({ label }, row) => label !== all.rows[row]?.label);
    expect(changed).toHaveLength(60);
    expect(textsOf(flipped)).toEqual(textsOf(all));
    const moves = new Set(flipped.rows.map(({ label }, row) => `${all.rows[row]?.label} ${label}`));
    expect(moves.size).toBe(9);
    const [again, other] = await Promise.all([1, 2].map((seed) => flipLabels(all, { share: 0.2, seed })));
    expect(again?.fingerprint).toBe(flipped.fingerprint);
    expect(other?.fingerprint).not.toBe(flipped.fingerprint);
  });

  it('rejects rows without classes', async () => {
    const rows = [{ text: 'a', label: 0.5 }];
    const numbers = await createDataSet({ name: 'numbers', kind: 'regression', classes: [], rows });
    await expect(flipLabels(numbers, { share: 0.2, seed: 1 })).rejects.toBeInstanceOf(ConfigError);
  });
});

describe('splitSelection', () => {
  it('loses no row and has no text on both sides', async () => {
    await fc.assert(
      fc.asyncProperty(labelsOf, fc.integer({ min: 12, max: 60 }), seeds, async (labels, distinct, seed) => {
        const all = await classified(labels, (row) => `text ${row % distinct}`);
        const { train, selection } = await splitSelection(all, { share: 0.3, seed });
        expect([...textsOf(train), ...textsOf(selection)].sort()).toEqual(textsOf(all).sort());
        expect(textsOf(selection).filter((text) => textsOf(train).includes(text))).toEqual([]);
        const oneTextPerClass = 3 * Math.ceil(labels.length / distinct);
        expect(Math.abs(selection.rows.length - 0.3 * labels.length)).toBeLessThanOrEqual(oneTextPerClass);
      }),
    );
  });

  it('splits a data set of a few repeated texts', async () => {
    const all = await classified(
      Array.from({ length: 1000 }, (_, row) => row % 2),
      (row) => `text ${row % 16}`,
    );
    const { selection } = await splitSelection(all, { seed: 1 });
    expect(classSizes(selection).map((size) => Math.round(size / 62.5))).toEqual([1, 1, 0]);
  });

  it('keeps the classes in proportion', async () => {
    const all = await classified(Array.from({ length: 1000 }, (_, row) => (row % 10 < 6 ? 0 : row % 10 < 9 ? 1 : 2)));
    const { train, selection } = await splitSelection(all, { seed: 3 });
    expect(classSizes(selection)).toEqual([60, 30, 10]);
    expect(classSizes(train)).toEqual([540, 270, 90]);
  });

  it('compares both texts of pairs', async () => {
    const rows = Array.from({ length: 40 }, (_, row) => ({ text: 'same', pair: `pair ${row}`, label: row % 2 }));
    const all = await createDataSet({ name: 'pairs', kind: 'classification', classes: ['a', 'b'], rows });
    expect((await splitSelection(all, { seed: 1 })).selection.rows).toHaveLength(4);
  });

  it('splits rows with numbers, too', async () => {
    const rows = Array.from({ length: 40 }, (_, row) => ({ text: `text ${row}`, label: row / 7 }));
    const all = await createDataSet({ name: 'numbers', kind: 'regression', classes: [], rows });
    const { train, selection } = await splitSelection(all, { seed: 1 });
    expect([train.rows.length, selection.rows.length]).toEqual([36, 4]);
  });

  it('only depends on the seed', async () => {
    const all = await classified(Array.from({ length: 200 }, (_, row) => row % 3));
    const prints = await Promise.all(
      [1, 1, 2].map(async (seed) => (await splitSelection(all, { seed })).selection.fingerprint),
    );
    expect(prints[0]).toBe(prints[1]);
    expect(prints[0]).not.toBe(prints[2]);
  });

  it('rejects data that cannot be split', async () => {
    const alike = await classified([0, 1, 2, 0], () => 'same');
    await expect(splitSelection(alike, { seed: 1 })).rejects.toBeInstanceOf(DataError);
    await expect(splitSelection(await classified([0]), { seed: 1 })).rejects.toBeInstanceOf(DataError);
  });

  it.each([0, 1, -0.1, NaN])('rejects a share of %s', async (share) => {
    await expect(splitSelection(await classified([0, 1]), { share, seed: 1 })).rejects.toBeInstanceOf(ConfigError);
  });
});

describe('splitSelection of very few rows', () => {
  it('rejects training rows of one class, and names the missing classes', async () => {
    const split = splitSelection(await classified([0, 1]), { seed: 1 });
    await expect(split).rejects.toThrow(DataError);
    await expect(split).rejects.toThrow(/expected two classes to train on, got only "\w+": .* every row of "\w+"/);
  });

  it('accepts training rows of two of three classes', async () => {
    const { train } = await splitSelection(await classified([0, 1, 2]), { seed: 1 });
    expect(new Set(train.rows.map(({ label }) => label)).size).toBe(2);
  });
});
