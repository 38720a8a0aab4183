import { diskStorage, memoryStorage } from '@peftjs/core';
import { ConfigError, DataError } from '@peftjs/core/method';
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import {
  glueName,
  glueTask,
  glueTasks,
  readHubGlue,
  type DataSet,
  type GlueName,
  type Task,
  type LabelKind,
} from '@peftjs/tasks';
import { bytesOf, expectDataError, fixture, fixtureFolder } from './files.js';

const folder = `${fixtureFolder}/glue`;
const names = [...glueTasks.keys()];
const readFixture = (path: string) => fixture(`hub/${path}`);
const labelsOf = ({ rows }: DataSet<LabelKind>) => rows.map(({ label }) => label);
const setsOf = ({ train, dev, extraDevSets = {} }: Task<LabelKind>) => [train, dev, ...Object.values(extraDevSets)];

describe('the tasks of the suite', () => {
  it('are nine, with MNLI reported on either development set', () => {
    expect(names).toEqual(['cola', 'sst2', 'mrpc', 'qqp', 'stsb', 'mnli', 'mnli-mm', 'qnli', 'rte', 'wnli']);
  });

  it.each<[GlueName, string[]]>([
    ['cola', ['matthewsCorrelation']],
    ['sst2', ['accuracy']],
    ['mrpc', ['f1', 'accuracy']],
    ['qqp', ['accuracy', 'f1']],
    ['stsb', ['pearson', 'spearman']],
    ['mnli', ['accuracy']],
    ['mnli-mm', ['accuracy']],
    ['qnli', ['accuracy']],
    ['rte', ['accuracy']],
    ['wnli', ['accuracy']],
  ])('%s has its published metrics, the first of which selects checkpoints', async (name, metrics) => {
    const task = await glueTask(name, folder, diskStorage());
    expect(Object.keys(task.metrics.metrics)).toEqual(metrics);
    expect([task.primaryMetric, task.metrics.primary]).toEqual([metrics[0], metrics[0]]);
  });

  it('are found in any common spelling', () => {
    const written = ['CoLA', 'SST-2', 'sst2', 'STS-B', 'MNLI', 'MNLI-m', 'mnli_matched', 'MNLI-mm', 'mnli_mismatched'];
    expect(written.map(glueName)).toEqual([
      'cola',
      'sst2',
      'sst2',
      'stsb',
      'mnli',
      'mnli',
      'mnli',
      'mnli-mm',
      'mnli-mm',
    ]);
    expect(['glue', '', 'constructor', 'uci-sentiment'].map(glueName)).toEqual(Array(4).fill(undefined));
  });

  it('are listed in the error for an unknown name', async () => {
    const work = glueTask('imdb', folder, diskStorage());
    await expect(work).rejects.toBeInstanceOf(ConfigError);
    await expect(work).rejects.toThrow(/one of cola, sst2, .*, got "imdb"/);
    await expect(readHubGlue('imdb', readFixture)).rejects.toBeInstanceOf(ConfigError);
  });
});

describe.each(names)('%s', (name) => {
  it("is the same from the suite's folder and from the hub", async () => {
    const [fromFolder, fromHub] = [await glueTask(name, folder, diskStorage()), await readHubGlue(name, readFixture)];
    expect(fromHub).toEqual(fromFolder);
    expect(setsOf(fromFolder).every(({ rows }) => rows.length >= 2)).toBe(true);
    expect(new Set(setsOf(fromFolder).map(({ fingerprint }) => fingerprint)).size).toBe(setsOf(fromFolder).length);
  });

  it("is the same from a local copy of the hub, and from the task's folder alone", async () => {
    const expected = await glueTask(name, folder, diskStorage());
    expect(await glueTask(name, `${fixtureFolder}/hub`, diskStorage())).toEqual(expected);
    expect(await glueTask(name, `${folder}/${glueTasks.get(name)?.folder ?? ''}`, diskStorage())).toEqual(expected);
  });
});

describe('rows', () => {
  const task = (name: GlueName) => glueTask(name, folder, diskStorage());

  it('of CoLA, whose files have no header and no final newline', async () => {
    const { train, dev, classes } = await task('cola');
    expect(classes).toEqual(['unacceptable', 'acceptable']);
    expect(train.rows).toEqual([
      { text: 'The gardener filled the pond with water.', label: 1 },
      { text: 'The gardener poured the pond with water.', label: 0 },
      { text: 'Who did she say that "the boat belongs to?', label: 1 },
    ]);
    expect(dev.rows.at(-1)).toEqual({ text: 'He left his coat in the hall.', label: 1 });
  });

  it('of MRPC, with a byte order mark and unclosed quotes', async () => {
    const { train } = await task('mrpc');
    expect(train.rows[0]).toEqual({
      text: 'The council said the bridge, closed since May, will open on Friday.',
      pair: '"The bridge will open on Friday after months of repairs, the council said.',
      label: 1,
    });
  });

  it('of MRPC from the untokenised sentences', async () => {
    const files = new Map([
      ['glue/MRPC/train.raw.tsv', readFileSync(`${folder}/MRPC/train.tsv`)],
      ['glue/MRPC/dev.raw.tsv', readFileSync(`${folder}/MRPC/dev.tsv`)],
    ]);
    expect(await glueTask('mrpc', 'glue', memoryStorage(files))).toEqual(await task('mrpc'));
  });

  it('of QQP without broken lines, and with an empty question', async () => {
    const { train } = await task('qqp');
    expect(train.rows).toEqual([
      { text: 'How do I dry herbs?', pair: 'What is a good way to dry herbs?', label: 1 },
      { text: 'Why is the sea salty?', pair: 'Who named the sea?', label: 0 },
      { text: 'What does "et al." mean?', pair: '', label: 0 },
    ]);
  });

  it('of STS-B, with numbers as labels', async () => {
    const { train, dev, kind, classes } = await task('stsb');
    expect([kind, classes, labelsOf(train), labelsOf(dev)]).toEqual(['regression', [], [4.8, 0, 2.333], [5, 3.8]]);
  });

  it("of MNLI, with the hub's classes and both development sets", async () => {
    const { train, dev, classes, extraDevSets } = await task('mnli');
    expect(classes).toEqual(['entailment', 'neutral', 'contradiction']);
    expect(labelsOf(train)).toEqual([0, 2, 1]);
    expect(labelsOf(dev)).toEqual([1, 0]);
    expect(Object.keys(extraDevSets ?? {})).toEqual(['mismatched']);
    const mismatched = await task('mnli-mm');
    expect(mismatched.dev.rows).toEqual(extraDevSets?.['mismatched']?.rows);
    expect([mismatched.extraDevSets, mismatched.train.fingerprint]).toEqual([undefined, train.fingerprint]);
  });

  it('of QNLI and RTE, where entailment is class 0', async () => {
    for (const name of ['qnli', 'rte'] as const) {
      const { classes, train } = await task(name);
      expect([classes, labelsOf(train)[0]]).toEqual([['entailment', 'not_entailment'], 0]);
    }
    expect((await task('wnli')).classes).toEqual(['not_entailment', 'entailment']);
  });
});

describe('a file', () => {
  /** Reads a task whose training and development set are the same file. */
  const read = async (content: string | Uint8Array, name: string) => {
    const bytes = typeof content === 'string' ? bytesOf(content) : content;
    const sets = ['train', 'dev', 'dev_matched', 'dev_mismatched'].map((set) => [`d/${set}.tsv`, bytes] as const);
    const task = await glueTask(name, 'd', memoryStorage(new Map(sets)));
    return task.train;
  };

  it('only splits lines at \\n', async () => {
    const { rows } = await read('sentence\tlabel\none\u2028two\u0085three\t0\n', 'sst2');
    expect(rows[0]?.text).toBe('one\u2028two\u0085three');
  });

  it.each([
    ['hidden labels', 'sst2', 'sentence\tlabel\na\t-1\n', 'd/train.tsv:2', '"negative", "positive"', '"-1"'],
    ['another class', 'rte', 'sentence1\tsentence2\tlabel\na\tb\tneutral\n', 'd/train.tsv:2', '"neutral"'],
    ['a class number that is too large', 'mnli', 'sentence1\tsentence2\tgold_label\na\tb\t3\n', 'd/train.tsv:2', '"3"'],
    [
      'a label that no annotator agreed on',
      'mnli',
      'sentence1\tsentence2\tgold_label\na\tb\t-\n',
      'd/train.tsv:2',
      '"-"',
    ],
    ['a score that is not a number', 'stsb', 'sentence1\tsentence2\tscore\na\tb\thigh\n', 'd/train.tsv:2', 'a number'],
    [
      'a test file without labels',
      'sst2',
      'index\tsentence\n0\ta\n',
      'd/train.tsv:1',
      '"sentence", "label"',
      '"index"',
    ],
    ['a file of another task', 'qqp', 'sentence\tlabel\na\t1\n', 'd/train.tsv:1', '"question1"'],
    ['a truncated line', 'rte', 'sentence1\tsentence2\tlabel\na\tb\n', 'd/train.tsv:2', 'expected 3 cells', 'got 2'],
    ['a truncated CoLA line', 'cola', 'gj04\t1\t\tA.\ngj04\t1\n', 'd/train.tsv:2', 'expected 4 cells'],
    ['only a header', 'wnli', 'index\tsentence1\tsentence2\tlabel\n', 'd/train.tsv', 'rows'],
    ['QQP with broken lines only', 'qqp', 'question1\tquestion2\tis_duplicate\na\tb\n', 'd/train.tsv', 'rows'],
    ['an empty file', 'cola', '', 'd/train.tsv', 'empty'],
  ])('rejects %s', async (_, name, text, ...parts) => {
    await expectDataError(read(text, name), ...parts);
  });

  it('rejects a Parquet file of another task', async () => {
    const path = 'train-00000-of-00001.parquet';
    const bytes = await fixture(`hub/cola/${path}`);
    for (const task of ['mrpc', 'stsb'] as const) {
      await expectDataError(
        readHubGlue(task, () => Promise.resolve(bytes)),
        `${task}/${path}:1`,
        '"sentence1"',
      );
    }
  });
});

describe('missing files', () => {
  it('are listed in the error', async () => {
    await expectDataError(glueTask('cola', '/nowhere', diskStorage()), '/nowhere', 'CoLA/train.tsv', 'cola/train-');
    const files = new Map([['glue/MNLI/train.tsv', readFileSync(`${folder}/MNLI/train.tsv`)]]);
    await expectDataError(glueTask('mnli', 'glue', memoryStorage(files)), 'MNLI/dev_matched.tsv');
  });

  it('on the hub are reported by the reader', async () => {
    const gone = new DataError('not on the hub');
    await expect(readHubGlue('cola', () => Promise.reject(gone))).rejects.toBe(gone);
  });
});
