import { describe, expect, it } from 'vitest';
import { createDataSet, metricsFor } from '@peftjs/tasks';
import { smallStudy } from '../../test/studies.js';
import type { LabelledTask } from '../registry/tasks.js';
import type { StudyProtocol } from '../study/study.js';
import { splitRows } from './prepare.js';

const rowsOf = (count: number) => Array.from({ length: count }, (_, row) => ({ text: `text ${row}`, label: row % 2 }));
const set = (name: string, count: number) =>
  createDataSet({ name, kind: 'classification' as const, classes: ['a', 'b'], rows: rowsOf(count) });
const task = async (): Promise<LabelledTask> => {
  const [train, dev] = [await set('mine', 60), await set('dev', 10)];
  const { kind, classes } = train;
  const metrics = metricsFor(kind, classes);
  return { name: 'mine', kind, classes, train, dev, metrics, primaryMetric: metrics.primary, ...origin };
};
const origin = { source: 'made up', licence: 'none' };
const split = async (protocol: Partial<StudyProtocol>) => splitRows(await task(), smallStudy({ protocol }).protocol);
const sizes = async (protocol: Partial<StudyProtocol>) => {
  const { train, selection, dev } = await split(protocol);
  return [train.rows.length, selection.rows.length, dev.rows.length];
};

describe('splitRows', () => {
  it('takes selection rows out of the training file, in addition to those to train on', async () => {
    expect(await sizes({ rows: 30, selectionRows: 20 })).toEqual([30, 20, 10]);
    expect(await sizes({ rows: 30 })).toEqual([27, 3, 10]);
    expect(await sizes({ selectionRows: 20 })).toEqual([40, 20, 10]);
  });

  it('trains on no more rows than asked for, however many select', async () => {
    expect(await sizes({ rows: 10, selectionRows: 40 })).toEqual([10, 40, 10]);
    expect(await sizes({ rows: 10, selectionRows: 500 })).toEqual([10, 50, 10]);
  });

  it('takes at most half of the file for selection, unless fewer rows train', async () => {
    expect(await sizes({ rows: 100, selectionRows: 500 })).toEqual([30, 30, 10]);
  });

  it('flips labels of training rows only', async () => {
    const [before, after] = [await split({}), await split({ flippedLabels: 0.1 })];
    expect(after.selection.fingerprint).toBe(before.selection.fingerprint);
    expect(after.dev.fingerprint).toBe(before.dev.fingerprint);
    const labels = ({ train }: typeof before) => train.rows.map((row) => ('label' in row ? row.label : NaN));
    expect(labels(after).filter((label, row) => label !== labels(before)[row])).toHaveLength(5);
  });
});
