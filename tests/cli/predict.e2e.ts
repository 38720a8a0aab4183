import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { temporaryFolder } from '../../tools/vitest/temporary-folder.js';
import { bertFolder } from '../models/bert-tiny.js';
import { expected, fixture } from '../pipelines/tiny.js';
import { writeDecoder } from './decoder.js';
import { peftBench } from './in-process.js';
import { tinyTask } from './tiny-task.js';

const folder = temporaryFolder();
const path = (name: string): string => join(folder, name);
const { texts } = expected;

beforeAll(async () => {
  const task = await tinyTask(folder, 32);
  const trained = await peftBench(['train', '--method', 'lora', ...task, '--out', path('adapter')]);
  expect(trained.code, trained.stderr).toBe(0);
  await writeDecoder(path('decoder'), 'gpt2');
  await mkdir(path('empty'));
});

async function predicted(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await peftBench(['predict', ...args]);
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  return stdout;
}

/** The JSON lines that a command prints. */
async function json(...args: string[]): Promise<Record<string, unknown>[]> {
  const lines = (await predicted(...args, '--json')).trimEnd().split('\n');
  return lines.map((line) => JSON.parse(line) as Record<string, unknown>);
}

const close = (known: readonly { readonly score: number }[] = []): unknown[] =>
  known.map((one) => ({ ...one, score: expect.closeTo(one.score, 5) as number }));

describe('predict prints for texts', () => {
  it('their labels, like transformers', async () => {
    const all = await json(fixture('classifier'), ...texts, '--top-k', '3');
    expect(all).toEqual(texts.map((text, at) => ({ text, labels: close(expected.classified.several[at]) })));
  });

  it('for several labels, those above one half or above --threshold', async () => {
    const above = (least: number) =>
      texts.map((text, at) => ({
        text,
        labels: close(expected.classified.several[at]?.filter(({ score }) => score >= least)),
      }));
    expect(await json(fixture('classifier'), ...texts)).toEqual(above(0.5));
    expect(await json(fixture('classifier'), ...texts, '--threshold', '0.1')).toEqual(above(0.1));
  });

  it('their entities, with character positions', async () => {
    const plain = texts.slice(0, 2); // whose words are those that `##` marks
    const tagged = await json(fixture('tagger-bert'), ...plain);
    const known = expected.taggers['tagger-bert']?.entities['first'] ?? [];
    expect(tagged).toEqual(plain.map((text, at) => ({ text, entities: close(known[at]) })));
  });

  it('their vectors', async () => {
    const [one, two] = await json(bertFolder, 'a cat', 'a dog', '--task', 'feature-extraction');
    expect(one).toMatchObject({ text: 'a cat', embedding: expect.any(Array) as number[] });
    expect(one?.['embedding']).toHaveLength(32);
    expect(one?.['embedding']).not.toEqual(two?.['embedding']);
  });

  it('their continuations', async () => {
    const [one] = await json(path('decoder'), 'after 1', '--max-new-tokens', '3');
    expect(one).toEqual({ text: 'after 1', generated: expect.stringMatching(/^.{0,3}$/s) as string });
  });
});

describe('predict --chat', () => {
  const turn = '{% for m in messages %}{{ m.content }}{% endfor %}{% if add_generation_prompt %}: {% endif %}';
  const written = async (text: string): Promise<unknown> =>
    (await json(path('decoder'), text, '--max-new-tokens', '4'))[0]?.['generated'];

  it("answers a message in the model's chat template, or in ChatML, as in training", async () => {
    const tokenizer = JSON.parse(await readFile(path('decoder/tokenizer.json'), 'utf8')) as { added_tokens: object[] };
    const marks = ['<|im_start|>', '<|im_end|>'].map((content, index) => ({ id: 77 + index, content, special: true }));
    tokenizer.added_tokens.push(...marks);
    await writeFile(path('decoder/tokenizer.json'), JSON.stringify(tokenizer));
    const chat = [path('decoder'), 'after 1', '--chat', '--max-new-tokens', '4'];
    const [plain] = await json(...chat);
    expect(plain?.['generated']).toBe(await written('<|im_start|>user\nafter 1<|im_end|>\n<|im_start|>assistant\n'));
    const settings = { model_max_length: 48, chat_template: turn };
    await writeFile(path('decoder/tokenizer_config.json'), JSON.stringify(settings));
    const [own] = await json(...chat);
    expect(own).toEqual({ text: 'after 1', generated: await written('after 1: ') });
  });

  it('is the default for an adapter that was trained on conversations, and for no other', async () => {
    const growing =
      "{% for m in messages %}{{ m.role[0] ~ ':' ~ m.content }}{% endfor %}{% if add_generation_prompt %}a:{% endif %}";
    const template = JSON.stringify({ model_max_length: 48, chat_template: growing });
    await writeFile(path('decoder/tokenizer_config.json'), template);
    const said = (role: string, content: string) => ({ role, content });
    const row = {
      talk: (at: number) => ({ messages: [said('user', `after ${at}`), said('assistant', `comes ${at + 1}`)] }),
      plain: (at: number) => ({ prompt: `after ${at}: `, completion: `comes ${at + 1}` }),
    };
    const settings = ['--preset', 'smoke', '--model', path('decoder'), '--method', 'full', '--epochs', '3'];
    const made = async (name: keyof typeof row): Promise<string> => {
      const rows = Array.from({ length: 16 }, (_, at) => JSON.stringify(row[name](at)));
      await writeFile(path(`${name}.jsonl`), rows.join('\n'));
      const files = ['--train', path(`${name}.jsonl`), '--dev', path(`${name}.jsonl`)];
      const { code, stderr } = await peftBench(['train', ...settings, ...files, '--out', path(name)]);
      expect(code, stderr).toBe(0);
      return path(name);
    };
    const answer = async (...args: string[]): Promise<unknown> =>
      (await json(...args, 'after 1', '--max-new-tokens', '4'))[0]?.['generated'];
    const [talk, plain] = [await made('talk'), await made('plain')];
    expect(await answer(talk)).toBe(await answer(talk, '--chat'));
    expect(await answer(talk)).not.toBe(await answer(talk, '--raw'));
    expect(await answer(plain)).toBe(await answer(plain, '--raw'));
    const shown = async (adapter: string): Promise<string> => (await peftBench(['inspect', adapter])).stdout;
    expect(await shown(talk)).toContain('\ntrained on conversations: predict answers texts as messages');
    expect(await shown(plain)).not.toContain('conversations');
    const { code, stderr } = await peftBench(['predict', talk, 'after 1', '--raw', '--chat']);
    expect({ code, stderr }).toEqual({
      code: 2,
      stderr: expect.stringMatching(/--raw.* cannot be used with .*--chat/) as string,
    });
  });
});

describe('predict with an adapter', () => {
  it('prints a table for people, with one text per line', async () => {
    const table = await predicted(path('adapter'), 'a cat is here', 'a \u001b[31mdog');
    const [cat = '', dog = '', end] = table.split('\n');
    expect(cat).toMatch(/^(?:good|bad) \d\.\d{3} +a cat is here$/);
    expect(dog).toMatch(/^(?:good|bad) \d\.\d{3} +a  ?\[31mdog$/);
    expect(end).toBe('');
  });

  it('reads a file of any length line by line, and answers a blank line with one', async () => {
    const lines = Array.from({ length: 600 }, (_, row) => `a ${row % 3 === 0 ? 'cat' : 'dog'} is number ${row}`);
    await writeFile(path('texts.txt'), `\uFEFF${lines.slice(0, 300).join('\r\n')}\r\n\n${lines.slice(300).join('\n')}`);
    const read = await json(path('adapter'), '--file', path('texts.txt'));
    expect(read.map(({ text }) => text)).toEqual(lines.toSpliced(300, 0, ''));
    expect(read[300]).toEqual({ text: '' });
    const [alone] = await json(path('adapter'), lines[599] as string);
    const [best] = alone?.['labels'] as { label: string; score: number }[];
    expect(read[600]?.['labels']).toEqual(best && close([best]));
  });

  it('reads two texts in a line, or two arguments, as a pair', async () => {
    const [pair] = await json(path('adapter'), '--pairs', 'a cat\ta dog');
    expect(await json(path('adapter'), '--pairs', 'a cat', 'a dog')).toEqual([pair]);
    expect(pair).toMatchObject({ text: 'a cat', textPair: 'a dog', labels: [{ label: expect.any(String) as string }] });
  });

  it('asks about --pairs where each line holds a tab', async () => {
    const { code, stderr } = await peftBench(['predict', path('adapter'), 'a cat\ta dog', 'a\tb']);
    expect({ code, stderr }).toEqual({ code: 0, stderr: expect.stringContaining('use --pairs if') as string });
  });
});

describe('predict exits with 2 and prints one clear line for', () => {
  it.each<[string, string[], RegExp]>([
    ['nothing', [], /: missing: <adapter>; see peft-bench predict --help/],
    ['an adapter that is not there', ['@none', 'a'], /none: there is no such folder; expected an adapter or a model/],
    [
      'a folder of nothing',
      ['@empty', 'a'],
      /has neither adapter_config\.json .* nor config\.json .* with --task: text-classification,/,
    ],
    ['an unknown task', ['@adapter', 'a', '--task', 'text-clasification'], /did you mean 'text-classification'\?/],
    ['another task than the adapter has', ['@adapter', 'a', '--task', 'text-generation'], /is for sequence-class/],
    ['an empty text', ['@adapter', ''], /text 1 is empty/],
    ['texts and a file', ['@adapter', 'a', '--file', '@texts.txt'], /give texts or --file, not both/],
    ['a file that is not there', ['@adapter', '--file', '@none.txt'], /none\.txt: no such file/],
    ['a folder as a file', ['@adapter', '--file', '@empty'], /expected a file, got a folder/],
    ['a file that is not text', ['@adapter', '--file', '@bytes'], /bytes:\d+: expected UTF-8 text, got other bytes/],
    ['one text as a pair', ['@adapter', '--pairs', 'a'], /text 1: expected two texts separated by a tab/],
    [
      'a line that is no pair',
      ['@adapter', '--pairs', '--file', '@lines'],
      /lines:2: expected two texts separated by a tab/,
    ],
    [
      'a flag of another task',
      ['@adapter', 'a', '--chat'],
      /--chat is for text-generation; the task of .* is text-class/,
    ],
    ['--top-k 0', ['@adapter', 'a', '--top-k', '0'], /top-k.*'0'/],
    ['a threshold that is not a number', ['@adapter', 'a', '--threshold', 'high'], /threshold.*'high'.*number/],
  ])('%s', async (_, args, message) => {
    await writeFile(path('bytes'), Uint8Array.of(0x61, 0x0a, 0xff, 0xfe));
    await writeFile(path('lines'), 'a\tb\n\nc\n'.replace('\n\n', '\n'));
    const at = args.map((arg) => arg.replace(/^@/, `${folder}/`));
    const { code, stdout, stderr } = await peftBench(['predict', ...at]);
    expect({ code, lines: stderr.trim().split('\n').length }).toEqual({ code: 2, lines: 1 });
    expect(stderr).toMatch(message);
    expect(stdout).toBe('');
  });
});
