import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { onWarning } from '@peftjs/core';
import type { PretrainedModel } from '@peftjs/models';
import { createDataSet, languageSet, metricsFor, type DataSet, type LanguageSet, type LabelKind } from '@peftjs/tasks';
import { smallStudy } from '../../test/studies.js';
import type { LabelledTask, LoadedLanguageTask } from '../registry/tasks.js';
import type { StudyProtocol } from '../study/study.js';
import { heldOutRows, plannedLengths } from './plan-run.js';

let warnings: string[] = [];
let restore = (): void => undefined;
beforeEach(() => {
  warnings = [];
  restore = onWarning((line) => warnings.push(line));
});
afterEach(() => {
  restore();
});

/** A tokenizer with one token per character and one at the end. */
const reader = (maxTokens: number): Pick<PretrainedModel, 'tokenizer' | 'maxTokens'> => ({
  maxTokens,
  tokenizer: {
    encode(text: string, pair = '', { maxTokens: most = maxTokens } = {}) {
      const ids = Array.from(`${text}${pair}$`, (character) => character.charCodeAt(0));
      return { ids: ids.slice(0, most), truncated: ids.length > most };
    },
    tokenIds: (text: string) => Array.from(text, (character) => character.charCodeAt(0)),
    eosTokenId: 0,
  } as unknown as PretrainedModel['tokenizer'],
});

const protocol = (changed: Partial<StudyProtocol> = {}): StudyProtocol => smallStudy({ protocol: changed }).protocol;

/** Rows with the given numbers of tokens. */
const rowsOf = (lengths: readonly number[]): DataSet<LabelKind>['rows'] =>
  lengths.map((length, row) => ({ text: String(row).padEnd(length - 1, '.'), label: row % 2 }));
const setOf = (lengths: readonly number[]): Promise<DataSet<LabelKind>> =>
  createDataSet({ name: 'rows', kind: 'classification', classes: ['a', 'b'], rows: rowsOf(lengths) });

async function labelled(train: readonly number[]): Promise<LabelledTask> {
  const [rows, dev] = [await setOf(train), await setOf([4, 4])];
  const { kind, classes } = rows;
  const origin = { source: 'here', licence: 'none' };
  const metrics = metricsFor(kind);
  return { name: 'rows', kind, classes, train: rows, dev, metrics, primaryMetric: metrics.primary, ...origin };
}

async function language(rows: LanguageSet['rows']): Promise<LoadedLanguageTask> {
  const [train, dev] = [await languageSet('talk', rows), await languageSet('talk', rows.slice(0, 2))];
  return { name: 'talk', kind: 'causal-lm', train, dev, source: 'here', licence: 'none' };
}

const times = (count: number, length: number): number[] => Array.from({ length: count }, () => length);

const maxTokensOf = async (...given: Parameters<typeof plannedLengths>): Promise<number> =>
  (await plannedLengths(...given)).maxTokens;

describe('the maximal row length of a task', () => {
  it('is what the training rows need, without a warning', async () => {
    expect(await maxTokensOf(await labelled(times(30, 99)), reader(256), protocol())).toBe(104);
    expect(warnings).toEqual([]);
  });

  it('is at most 512 tokens and the limit of the model, unless the protocol sets it', async () => {
    const task = await labelled(times(30, 2000));
    expect(await maxTokensOf(task, reader(4096), protocol())).toBe(512);
    expect(await maxTokensOf(task, reader(256), protocol())).toBe(256);
    expect(await maxTokensOf(task, reader(4096), protocol({ maxTokens: 1024 }))).toBe(1024);
    expect(await maxTokensOf(task, reader(256), protocol({ maxTokens: 1024 }))).toBe(256);
    expect(warnings.map((line) => line.split('; ').at(-1))).toEqual([
      'raise the length with --max-tokens N',
      "this is the model's limit",
      'raise the length with --max-tokens N',
    ]);
  });

  it('depends only on the rows that are trained on', async () => {
    const task = await labelled([...times(3, 200), ...times(197, 9)]);
    expect(await maxTokensOf(task, reader(256), protocol())).toBe(200);
    expect(await maxTokensOf(task, reader(256), protocol({ rows: 20, dataSeed: 2 }))).toBe(16);
  });

  it('is what prompts and completions need', async () => {
    const rows = times(20, 300).map((length, row) => ({ prompt: String(row).padEnd(length, '.'), completion: 'yes' }));
    expect(await maxTokensOf(await language(rows), reader(1024), protocol())).toBe(304);
    expect(warnings).toEqual([]);
  });

  it('is 128 tokens for texts, which are packed and lose nothing', async () => {
    const rows = times(9, 300).map((length, row) => ({ text: String(row).padEnd(length, '.') }));
    expect(await maxTokensOf(await language(rows), reader(1024), protocol())).toBe(128);
    expect(warnings).toEqual([]);
  });

  it('is reported with the prompts that are cut, and those that have nothing to learn left', async () => {
    const rows = [8, 8, 8, 8, 19, 30].map((length, row) => ({
      prompt: 'p'.repeat(length) + String(row),
      completion: 'yes',
    }));
    await maxTokensOf(await language(rows), reader(1024), protocol({ maxTokens: 22 }));
    expect(warnings).toEqual([
      'talk: rows longer than 22 tokens are cut: 1 of 4 training rows; left out, because their first 22 tokens have nothing to learn: 1 training row; raise the length with --max-tokens N',
    ]);
  });
});

it('a class that no training row has is named, whatever took its rows', async () => {
  const rowsWith = async (classes: readonly string[]): Promise<LabelledTask> => {
    const task = await labelled(times(30, 9));
    return { ...task, train: { ...task.train, classes } };
  };
  const lettered = await rowsWith(['a', 'b', 'c', 'd']);
  await plannedLengths(lettered, reader(16), protocol());
  await plannedLengths(lettered, reader(16), protocol({ rows: 20 }));
  await plannedLengths(await rowsWith(Array.from({ length: 14 }, (_, index) => `${index}`)), reader(16), protocol());
  expect(warnings).toEqual([
    'rows: no rows of "c", "d" are left to train on; add rows',
    'rows: no rows of "c", "d" are left to train on; add rows, or raise --rows',
    expect.stringMatching(/^rows: no rows of "2", "3", "4" and 9 more are left to train on; add rows$/),
  ]);
});

it('a count of one is written as one', async () => {
  await plannedLengths(await labelled(times(30, 9)), reader(16), protocol({ maxTokens: 8, selectionRows: 1 }));
  expect(warnings.join()).toContain(' 1 of 1 selection row;');
});

describe('the reported rows of a file without another one', () => {
  const heldOut = { heldOut: true, dev: { rows: { length: 9000 } } } as unknown as LabelledTask;

  it.each<[string, Partial<LabelledTask>, Partial<StudyProtocol>, number, number | undefined]>([
    ['are all that are held out', {}, {}, Infinity, undefined],
    ['are at most as many as the command says', {}, {}, 5000, 5000],
    ['are in proportion to a sample of training rows', {}, { rows: 1800 }, 5000, 200],
    ['and of selection rows', {}, { rows: 1800, selectionRows: 900 }, 5000, 300],
    ['are at least one', {}, { rows: 2 }, 5000, 1],
    ['are as many as the protocol says', {}, { rows: 1800, devRows: 7 }, 5000, undefined],
    ['are all of a development file', { heldOut: false }, { rows: 1800 }, 5000, undefined],
  ])('%s', (_, task, changed, most, devRows) => {
    expect(heldOutRows({ ...heldOut, ...task }, protocol(changed), most).devRows).toBe(devRows);
  });
});

describe('the epochs of a task', () => {
  const epochsOf = async (rows: number, changed: Partial<StudyProtocol> = {}): Promise<number> =>
    (await plannedLengths(await labelled(times(rows, 4)), reader(16), protocol(changed))).epochs;

  it('are three, or as many as make 200 steps of the rows that are trained on, at most 20', async () => {
    const batches = { batchSize: 16 };
    expect(await epochsOf(2000, batches)).toBe(3); // 1,800 rows, 113 steps an epoch
    expect(await epochsOf(600, batches)).toBe(6); // 540 rows, 34 steps an epoch
    expect(await epochsOf(2000, { ...batches, rows: 600 })).toBe(6);
    expect(await epochsOf(40, batches)).toBe(20);
  });

  it("are the protocol's, if it sets them", async () => {
    expect(await epochsOf(40, { epochs: 1 })).toBe(1);
  });

  it('are three for a language model', async () => {
    const rows = times(9, 300).map((length, row) => ({ text: String(row).padEnd(length, '.') }));
    expect(await plannedLengths(await language(rows), reader(1024), protocol())).toMatchObject({ epochs: 3 });
  });
});
