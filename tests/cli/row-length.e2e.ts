import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { temporaryFolder } from '../../tools/vitest/temporary-folder.js';
import { bertFolder } from '../models/bert-tiny.js';
import { peftBench } from './in-process.js';

const folder = temporaryFolder();
const at = (name: string): string => join(folder, name);

/** Neutral words of one token each. */
const FILLING =
  'the and was before that have made old report this would again better between bill film first last'.split(' ');

/** A row with this many words; the last three tell its label. */
function row(number: number, words: number): string {
  const filling = Array.from({ length: words - 3 }, (_, word) => FILLING[(number * (word + 1)) % FILLING.length]);
  const told = number % 2 === 0 ? 'water' : 'cold';
  return `${told}\t${[...filling, told, told, told].join(' ')}`;
}

async function table(name: string, lengths: readonly number[]): Promise<string> {
  await writeFile(at(name), ['label\ttext', ...lengths.map((words, number) => row(number, words))].join('\n'));
  return at(name);
}

interface Result {
  readonly id: string;
  readonly metrics: { readonly accuracy: number };
  readonly protocol: {
    readonly maxTokens: number;
    readonly data: { readonly truncated: Readonly<Record<string, number>> };
  };
}

/** Runs one trial; returns its result and the messages about tokens. */
async function trial(
  name: string,
  { train, dev, more = [] }: { train: readonly number[]; dev: readonly number[]; more?: readonly string[] },
): Promise<{ result: Result; said: string[] }> {
  const files = ['--train', await table(`${name}.tsv`, train), '--dev', await table(`${name}-dev.tsv`, dev)];
  const flags = [
    '--model',
    bertFolder,
    '--method',
    'lora',
    '--budget',
    'r=2',
    ...(more.includes('--seeds') ? [] : ['--seeds', '1']),
    ...more,
  ];
  const ended = await peftBench(['run', '--json', ...flags, ...files, '--out', at(`out-${name}`)]);
  expect(ended.code, ended.stderr).toBe(0);
  const [first = ''] = ended.stdout.split('\n');
  const said = ended.stderr.split('\n').filter((line) => line.includes('tokens'));
  return { result: JSON.parse(first) as Result, said };
}

const times = (count: number, words: number): number[] => Array.from({ length: count }, () => words);

describe('the default maximum length', () => {
  it('keeps a signal after word 45, like an explicit --max-tokens', async () => {
    const files = { train: times(160, 48), dev: times(16, 48) };
    const rate = ['--learning-rate', '0.01', '--epochs', '4'];
    const { result, said } = await trial('late', { ...files, more: rate });
    const explicit = await trial('late-64', { ...files, more: [...rate, '--max-tokens', '64'] });
    expect(result.metrics.accuracy).toBeGreaterThan(0.9);
    expect(result.metrics).toEqual(explicit.result.metrics);
    expect([result.protocol.maxTokens, explicit.result.protocol.maxTokens]).toEqual([56, 64]);
    expect(result.protocol.data.truncated).toEqual({ train: 0, selection: 0, dev: 0 });
    expect(said).toEqual([]);
  });

  it('is bounded by the model, with a message', async () => {
    const { result, said } = await trial('book', { train: [...times(20, 12), 10_000], dev: times(4, 12) });
    expect(result.protocol.maxTokens).toBe(64);
    expect(said).toEqual([
      "peft-bench: book: rows longer than 64 tokens are cut: 1 of 19 training rows; this is the model's limit",
    ]);
  });

  it('truncates one row in a hundred, which is printed once for all trials, and is in results and report', async () => {
    const train = [...times(198, 12), 60, 60];
    const more = ['--seeds', '2', '--rows', '200', '--epochs', '1'];
    const { result, said } = await trial('few', { train, dev: [...times(9, 12), 60], more });
    const { truncated } = result.protocol.data;
    expect(result.protocol.maxTokens).toBe(16);
    expect([(truncated.train ?? 0) + (truncated.selection ?? 0), truncated.dev]).toEqual([2, 1]);
    expect(said).toHaveLength(1);
    expect(said[0]).toMatch(
      /^peft-bench: few: rows longer than 16 tokens .* 1 of 10 dev rows; raise the length with --max-tokens N$/,
    );
    for (const report of ['report.html', 'report.md']) {
      expect(await readFile(at(`out-few/${report}`), 'utf8')).toContain('rows longer than 16 tokens were cut: ');
    }
  });

  it('can be overridden by --max-tokens for any data', async () => {
    const { result, said } = await trial('cut', {
      train: times(40, 12),
      dev: times(4, 12),
      more: ['--max-tokens', '8'],
    });
    expect(result.protocol).toMatchObject({ maxTokens: 8, data: { truncated: { train: 36, selection: 4, dev: 4 } } });
    expect(said).toEqual([
      'peft-bench: cut: rows longer than 8 tokens are cut: 36 of 36 training rows, 4 of 4 selection rows, 4 of 4 dev rows; raise the length with --max-tokens N',
    ]);
  });
});

it('peft-bench train reports truncation once', async () => {
  const files = ['--train', await table('one.tsv', times(40, 12)), '--dev', await table('one-dev.tsv', times(4, 12))];
  const flags = ['--model', bertFolder, '--method', 'lora', '--epochs', '1', '--max-tokens', '8'];
  const { code, stderr } = await peftBench(['train', ...flags, ...files, '--out', at('adapter')]);
  expect(code, stderr).toBe(0);
  expect(stderr.match(/are cut/g)).toHaveLength(1);
});

it('a class without training rows is named', async () => {
  const lines = ['a\tthe water', 'b\tthe moon', 'c\tthe bill'];
  await writeFile(at('classes.tsv'), ['label\ttext', ...lines].join('\n'));
  const files = ['--train', at('classes.tsv'), '--dev', at('classes.tsv')];
  const flags = ['--model', bertFolder, '--method', 'head', '--seeds', '1', '--out', at('classes')];
  const { code, stderr } = await peftBench(['run', ...flags, ...files]);
  expect(code, stderr).toBe(0);
  expect(stderr.match(/classes: no rows of "[abc]" are left to train on; add rows$/gm)).toHaveLength(1);
});
