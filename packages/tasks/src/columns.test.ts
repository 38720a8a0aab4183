import { describe, expect, it, vi } from 'vitest';
import { layoutOf } from './columns.js';
import type { Table } from './table.js';

const table = (columns: readonly string[]): Table => ({
  columns,
  line: 1,
  records: [{ line: 2, cells: new Map([['text', 'a'], ['label', 'b']]) }], // oxfmt-ignore
});

describe('the columns of a table', () => {
  it('are checked for repeats in one pass, however many there are', () => {
    const columns = [...Array.from({ length: 1000 }, (_, column) => `c${column}`), 'text', 'label'];
    const indexOf = vi.spyOn(columns, 'indexOf');
    expect(layoutOf(table(columns), {}, 'wide.tsv').texts).toEqual(['text']);
    expect(indexOf).not.toHaveBeenCalled();
  });

  it('must be different', () => {
    expect(() => layoutOf(table(['text', 'label', 'id', 'x', 'id']), {}, 'wide.tsv')).toThrow('got "id" twice');
  });

  it('may have no name, which are not read', () => {
    expect(layoutOf(table(['text', 'label', '', '']), {}, 'wide.csv')).toMatchObject({ texts: ['text'] });
  });

  it.each([
    [
      ['text', 'text_b', 'label'],
      ['text', 'text_b'],
    ],
    [
      ['text_b', 'text_a', 'label'],
      ['text_a', 'text_b'],
    ],
    [['text', 'text_a', 'label'], ['text']],
  ])('%j hold the texts %j', (columns, texts) => {
    expect(layoutOf(table(columns), {}, 'pairs.tsv').texts).toEqual(texts);
  });

  it.each([
    [['review', 'mood'], {}, /the lists .*, got "review", "mood"; rename them, or set .*--text-column, --label-column/],
    [['review', 'mood'], { textColumn: 'review' }, /expected a column "label", got "review", "mood"; .*--label-column/],
    [['review', 'mood'], { labelColumn: 'mood' }, /expected a column "text" .*, got "review", "mood"; .*--text-column/],
    [['text;label'], {}, /got "text;label"; cells are separated by tabs in a \.tsv file, and by commas, semicolons/],
  ])('that are unknown are listed with what to do: %j, %j', (columns, options, message) => {
    expect(() => layoutOf(table(columns), options, 'mine.tsv')).toThrow(message);
  });
});
