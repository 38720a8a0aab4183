// What `train` prints last and the lines of its model card, run as they are written: one training of each kind.
import { execFile } from 'node:child_process';
import { copyFile, mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { diskStorage } from '@peftjs/core';
import { beforeAll, expect, it } from 'vitest';
import { temporaryFolder } from '../../tools/vitest/temporary-folder.js';
import { bertFolder } from '../models/bert-tiny.js';
import { visionFolder } from '../models/vision.js';
import { writeDecoder } from './decoder.js';
import { peftBench } from './in-process.js';

const folder = temporaryFolder();
const at = (name: string): string => join(folder, name);
const animal = (row: number): string => (row % 2 === 0 ? 'cat' : 'dog');
const lines = (row: (index: number) => string): string => Array.from({ length: 32 }, (_, at) => row(at)).join('\n');
const json = (row: (index: number) => object): string => lines((at) => JSON.stringify(row(at)));

const FILES: Readonly<Record<string, string>> = {
  'classes.tsv': `text\tlabel\n${lines((row) => `a ${row % 2 === 0 ? 'cat' : '"dog"'} is number ${row}\t${animal(row)}s`)}`,
  'numbers.tsv': `text\tlabel\n${lines((row) => `a ${animal(row)} is number ${row}\t${row % 2 === 0 ? 1.5 : 4.5}`)}`,
  'pairs.tsv': `text_a\ttext_b\tlabel\n${lines((row) => `a ${animal(row)}\tnumber ${row}\t${animal(row)}s`)}`,
  'tags.conll': lines((row) => `the X O\n${animal(row)} X B-ANIMAL\n${row} X O\n`),
  'search.tsv': `anchor\tpositive\n${lines((row) => `what is ${row}\ta ${animal(row)} ${row}`)}`,
  'talk.jsonl': json((row) => ({
    messages: [
      { role: 'user', content: `${row}?` },
      { role: 'assistant', content: 'a number.' },
    ],
  })),
  'liked.jsonl': json((row) => ({ prompt: `${row}?`, chosen: ' yes', rejected: ' no' })),
};

/** A chat template without special words, which ends each message with the end-of-text token. */
const TEMPLATE =
  "{% for m in messages %}{{ m.role[0] ~ ':' ~ m.content ~ '<|endoftext|>' }}{% endfor %}{% if add_generation_prompt %}a:{% endif %}";

beforeAll(async () => {
  await symlink(fileURLToPath(new URL('../../node_modules', import.meta.url)), at('node_modules'));
  await symlink(bertFolder, at('bert-tiny')); // where the card looks for it
  for (const [name, content] of Object.entries(FILES)) await writeFile(at(name), content);
  await writeDecoder(at('decoder'), 'gpt2');
  await writeFile(
    at('decoder/tokenizer_config.json'),
    JSON.stringify({ model_max_length: 48, chat_template: TEMPLATE }),
  );
  for (const [label, picture] of Object.entries({ dark: 'grey.png', light: 'tall.png' })) {
    await mkdir(at(`photos/${label}`), { recursive: true });
    const from = new URL(`../tasks/fixtures/images/${picture}`, import.meta.url);
    for (let image = 0; image < 20; image++) await copyFile(from, at(`photos/${label}/${image}.png`));
  }
  for (const [file, bytes] of visionFolder(at('vit'))) await diskStorage().write(file, bytes);
});

/** Types a command into a shell. */
async function typed(command: string): Promise<string> {
  const env = { ...process.env, ...(!process.env.PEFTJS_BUILT && { NODE_OPTIONS: '--conditions=@peftjs/source' }) };
  const { stdout } = await promisify(execFile)('sh', ['-c', command], { cwd: folder, env });
  return stdout;
}

/** The lines of a language in the model card of an adapter. */
async function linesOf(language: string, adapter: string): Promise<string> {
  const card = await readFile(at(`${adapter}/README.md`), 'utf8');
  return card.split('```' + language + '\n')[1]?.split('```')[0] ?? expect.fail(`no ${language} in ${card}`);
}

const BERT = ['--model', bertFolder, '--method', 'lora', '--budget', 'r=4'];
const DECODER = ['--model', 'decoder', '--method', 'full'];

it.each<[string, readonly string[], RegExp]>([
  ['classes', ['--train', 'classes.tsv', ...BERT], /^cats \d\.\d{3} +a cat is number \d+\n$/],
  ['numbers', ['--train', 'numbers.tsv', ...BERT], /^\S+ (?:1|2|4|5)\.\d{3} +a (?:cat|dog) is number \d+\n$/],
  ['pairs', ['--train', 'pairs.tsv', ...BERT], /^(cat|dog)s \d\.\d{3} +a \1\b/],
  ['entities', ['--train', 'tags.conll', ...BERT], /^the (cat|dog) \d+\n +ANIMAL .*\1/],
  ['embeddings', ['--train', 'search.tsv', ...BERT], /^\[-?\d\.\d+, .* 32\] +what is \d+\n$/],
  ['chat', ['--train', 'talk.jsonl', ...DECODER], /^\d+\?\n +a number\.\n$/],
  ['preferences', ['--train', 'liked.jsonl', '--loss', 'orpo', ...DECODER], /^\d+\?\n +yes\n$/],
  [
    'images',
    ['--images', 'photos', '--model', 'vit', '--method', 'lora', '--budget', 'r=4'],
    /^(dark|light) .* photos\/\1\//,
  ],
])('the commands that training on %s ends with work as printed', async (name, flags, answer) => {
  const settings = ['--preset', 'smoke', '--batch-size', '8', '--epochs', '40', '--learning-rate', '0.01'];
  const { code, stderr } = await peftBench(['train', ...flags, ...settings, '--out', `my ${name}`], { cwd: folder });
  expect(code, stderr).toBe(0);
  const [predict = '', exporting = ''] = stderr.match(/npx peft-bench .*/g) ?? [];
  expect(exporting).toMatch(/ export /);
  await copyFile(at('photos/dark/0.png'), at('photo.jpg'));
  await writeFile(at(`${name}.mjs`), await linesOf('js', `my ${name}`));
  const [said, ran] = await Promise.all([typed(predict), typed(`npx tsx ${name}.mjs`), typed(exporting)]);
  expect(said).toMatch(answer);
  expect(JSON.parse(ran)).toEqual(expect.anything());
  if (name === 'classes') expect(await typed(await linesOf('sh', `my ${name}`))).toMatch(/^(cat|dog)s .* some text\n$/);
  expect(await readFile(at(`my ${name}-onnx/onnx/model.onnx`))).not.toHaveLength(0);
});
